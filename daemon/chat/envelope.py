"""What a client is told, in the words of OpenAI's API, with two of our own.

`model` is the release that answered, or the base's name; `id` is the experience's, on which
feedback can be given; `bhavana` says what was kept.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from daemon.chat.lineup import ALIASES, Lineup
from daemon.chat.upstream import Usage
from daemon.problems import Problem
from store.records import MAIN

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
END = b"data: [DONE]\n\n"


class Kept(Struct, frozen=True, kw_only=True):
    """What became of the exchange here."""

    recorded: bool
    """Whether it was kept as the experience of this id."""
    training: bool = False
    """Whether it may be learned from."""


class Said(Struct, frozen=True, kw_only=True):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(Struct, frozen=True, kw_only=True):
    """The one answer that there is."""

    index: int = 0
    message: Said
    finish_reason: str
    logprobs: None = None


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage
    bhavana: Kept


class Delta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is new in a piece of a stream."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True, kw_only=True):
    """A piece of the one answer."""

    index: int = 0
    delta: Delta
    finish_reason: str | None = None
    logprobs: None = None


class ChatCompletionChunk(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a stream; what was kept stands in the one with finish_reason."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | UnsetType | None = UNSET
    bhavana: Kept | UnsetType = UNSET


class Model(Struct, frozen=True, kw_only=True):
    """A line that can be talked to."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "bhavana"


class Models(Struct, frozen=True, kw_only=True):
    """All of them."""

    object: Literal["list"] = "list"
    data: tuple[Model, ...]


class Fault(Struct, frozen=True, kw_only=True):
    """What is wrong, and what to do."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """An error as this API has it."""

    error: Fault


def models(lineup: Lineup) -> Models:
    """What a client may name: `bhavana`, and each line."""
    names = [*ALIASES, *(name for name in lineup.traffic if name != MAIN)]
    return Models(data=tuple(Model(id=name) for name in names))


def error(problem: Problem) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) that tell a client about a problem."""
    status = 400 if problem.status == 422 else problem.status
    words = problem.message if problem.hint is None else f"{problem.message} {problem.hint}"
    where = (problem.pointer or "").strip("/").replace("/", ".")
    fault = Fault(
        message=words,
        type=KINDS.get(status, "server_error" if status >= 500 else KINDS[400]),
        param=where or None,
        code=problem.code,
    )
    return status, problem.headers, msgspec.json.encode(ErrorAnswer(error=fault))


def event(value: Any) -> bytes:
    """A server-sent event."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return b"data: " + body + b"\n\n"
