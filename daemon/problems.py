"""Errors at the HTTP edge: problem+json (RFC 9457) with a stable code and what to do next."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from store.errors import (
    BhavanaError,
    Busy,
    Conflict,
    Misconfigured,
    NotFound,
    Rejected,
    Unavailable,
)
from store.records import Noun

RETRY_AFTER_SECONDS = 5


class Problem(Rejected):
    """A fault that only exists at the HTTP edge, with its status and code."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        pointer: str | None = None,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, pointer=pointer)
        self.status = status
        self.code = code
        self.headers = headers or {}
        self.extra = extra or {}


def problem_of(error: BhavanaError) -> Problem:
    """The problem that tells a caller about one of our errors."""
    if isinstance(error, Problem):
        return error
    pointer = error.pointer if isinstance(error, Rejected) else None
    known: list[tuple[type[BhavanaError], int, str]] = [
        (Conflict, 409, "conflict"),
        (NotFound, 404, "not_found"),
        (Misconfigured, 503, "misconfigured"),  # by us, so the request may be well
        (Rejected, 422, "rejected"),
        (Busy, 503, "busy"),
        (Unavailable, 503, "unavailable"),
    ]
    for kind, status, code in known:
        if isinstance(error, kind):
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {}
            return Problem(
                status, code, error.message, hint=error.hint, pointer=pointer, headers=headers
            )
    return Problem(500, "internal", "Something went wrong here; nothing was kept.")


class Document(Noun, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=False):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    """Stable, for programs."""
    detail: str
    pointer: str | UnsetType = UNSET
    """RFC 6901, to the fault in the request's document."""
    hint: str | UnsetType = UNSET
    """What to do next."""


def respond(problem: Problem) -> Response:
    """The problem as an application/problem+json response."""
    document = Document(
        type=f"urn:bhavana:problem:{problem.code}",
        title=problem.code.replace("_", " "),
        status=problem.status,
        code=problem.code,
        detail=problem.message,
        pointer=UNSET if problem.pointer is None else problem.pointer,
        hint=UNSET if problem.hint is None else problem.hint,
    )
    return Response(
        msgspec.json.encode(msgspec.to_builtins(document) | problem.extra),
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


def pointer_of(error: msgspec.ValidationError) -> tuple[str, str]:
    """(RFC 6901 pointer, reason) of a msgspec error such as "… - at `$.messages[0].role`".

    msgspec does not name keys of free maps: `$.metadata[...]` points to the map itself.
    """
    reason, _, where = str(error).partition(" - at ")
    path = where.rpartition("`$")[2].rstrip("`").partition("[...]")[0]
    if where.startswith("`key`"):
        reason = f"A key: {reason}"
    return path.replace(".", "/").replace("[", "/").replace("]", ""), reason
