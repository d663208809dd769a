"""What became of the items of a request: one result each, and the answer that they make."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from daemon.problems import Problem
from store.log import Appended
from store.records import Identifier, Noun

ERASED = "This was erased on a person's wish and is not taken again."
CONFLICT = "Recorded before with other content."


class Result(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one item."""

    id: str = ""
    status: str
    """recorded; duplicate: same id and content, nothing to do; conflict: same id and other
    content; invalid; refused. Sending the last three again is useless."""
    position: int | UnsetType = UNSET
    """Where it stands in the log."""
    code: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    pointer: str | UnsetType = UNSET
    """RFC 6901, into the item."""


class _Named(msgspec.Struct):
    id: Identifier = ""


def id_in(text: bytes) -> str:
    """The id that an item claims, where it can be read, to name its result."""
    try:
        return msgspec.json.decode(text, type=_Named).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def result_of(name: str, appended: Appended) -> Result:
    """The result of an item that came as far as the log."""
    if appended.status == "erased":
        return Result(id=name, status="refused", code="erased", detail=ERASED)
    if appended.status == "conflict":
        return Result(id=name, status="conflict", code="conflict", detail=CONFLICT)
    return Result(id=name, status=appended.status, position=appended.position)


def refused(name: str, problem: Problem) -> Result:
    """The result of an item that did not."""
    status = "invalid" if problem.status in (400, 422) else "refused"
    return Result(
        id=name,
        status=status,
        code=problem.code,
        detail=problem.message,
        pointer=UNSET if problem.pointer is None else problem.pointer,
    )


def answer_for_one(name: str, appended: Appended) -> tuple[int, bytes]:
    """Status and body of a request with one item. Raises Problem 409 and 410."""
    if appended.status == "conflict":
        raise Problem(409, "conflict", CONFLICT, hint="Send other content under another id.")
    if appended.status == "erased":
        raise Problem(410, "erased", ERASED)
    status = 201 if appended.status == "recorded" else 200
    return status, msgspec.json.encode(result_of(name, appended))


def answer_for_many(results: list[Result]) -> tuple[int, bytes]:
    """Status and body of a request with many; 207 where not all are kept."""
    found = {result.status for result in results}
    status = 207 if found - {"recorded", "duplicate"} else 201 if "recorded" in found else 200
    return status, msgspec.json.encode({"results": results})
