"""One question to the process that answers, and its answer piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import msgspec
from msgspec import Struct, field

from daemon.chat.request import Asked
from daemon.problems import RETRY_AFTER_SECONDS, Problem
from daemon.texts import CONTROL
from store.records import to_json
from trainer.serving import Server

URL = "http://server/v1/chat/completions"
DATA, ERROR, LAST = "data: ", "error: ", "[DONE]"
TOO_LONG = "exceed_context_size_error"


class Usage(Struct, frozen=True):
    """Tokens that an answer took."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Piece(Struct, frozen=True):
    """What came of an answer: words, why it ended, or what it took."""

    text: str = ""
    finish: str | None = None
    """stop: the model ended by itself, or at a word it was to stop at; length: it was cut."""
    usage: Usage | None = None


class _Delta(Struct):
    content: str | None = None


class _Choice(Struct):
    delta: _Delta = field(default_factory=_Delta)
    finish_reason: str | None = None


class _Event(Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: dict[str, Any] | None = None


async def answer(server: Server, asked: Asked, release: str | None) -> AsyncGenerator[Piece, None]:
    """The answer of a release that this process holds. Raises Problem.

    To leave the iteration early ends the work on it, too.
    """
    order = {
        "messages": asked.messages,
        "max_tokens": asked.most_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": 0,  # of llama.cpp's own filters none that a client of this API does not know
        "min_p": 0.0,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "stop": asked.stop,
        "stream": True,
        "stream_options": {"include_usage": True},
        "lora": server.scales(release),
    } | ({} if asked.seed is None else {"seed": asked.seed})
    transport = httpx.AsyncHTTPTransport(uds=server.socket, verify=False)
    try:
        async with (
            httpx.AsyncClient(transport=transport, timeout=None) as client,  # noqa: S113  # the door's
            client.stream("POST", URL, content=to_json(order)) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise _refused(await response.aread())
            async with aclosing(_pieces(response)) as pieces:
                async for piece in pieces:
                    yield piece
    except httpx.TransportError as error:
        raise _gone() from error


async def _pieces(response: httpx.Response) -> AsyncGenerator[Piece, None]:
    finished = False
    async for line in response.aiter_lines():
        if line.startswith(ERROR):
            raise _refused(line.removeprefix(ERROR).encode())
        if not line.startswith(DATA) or line == DATA + LAST:
            continue
        data = line.removeprefix(DATA).encode()
        event = msgspec.json.decode(data, type=_Event)
        if event.error is not None:
            raise _refused(data)
        for choice in event.choices:
            finished = finished or choice.finish_reason is not None
            text = CONTROL.sub("", choice.delta.content or "")
            if text or choice.finish_reason:
                yield Piece(text, choice.finish_reason)
        if event.usage is not None:
            yield Piece(usage=event.usage)
    if not finished:
        raise _gone()


def _refused(body: bytes) -> Problem:
    """llama.cpp's own word on what it cannot do, as a fault of the request where it is one."""
    try:
        error = msgspec.json.decode(body, type=dict[str, Any]).get("error", {})
        code, kind, said = error.get("code"), error.get("type"), str(error.get("message"))
    except (msgspec.DecodeError, AttributeError):
        code, kind, said = None, None, ""
    if kind == TOO_LONG:
        return Problem(
            400,
            "context_length_exceeded",
            f"This conversation is too long: {error.get('n_prompt_tokens')} tokens, where "
            f"{error.get('n_ctx')} hold it and its answer.",
            hint="Send fewer messages; the operator may raise serving.context.",
            pointer="/messages",
        )
    if code == httpx.codes.BAD_REQUEST:
        return Problem(400, "invalid", f"The model cannot take this: {said}", pointer="/messages")
    return _gone()


def _gone() -> Problem:
    return Problem(
        503,
        "model_unavailable",
        "The process that answers has ended in the middle of it; it is being started again.",
        hint="Ask again in a moment.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
