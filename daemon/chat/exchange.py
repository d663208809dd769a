"""One exchange under way, and the answer on its way to the client."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from daemon.chat import envelope
from daemon.chat.envelope import ChatCompletionChunk, ChunkChoice, Delta, Kept
from daemon.chat.recording import Recorder
from daemon.chat.request import Asked
from daemon.chat.upstream import Usage
from daemon.cors import Send
from daemon.problems import Problem
from store.records import Experience, new_id, now

EVENTS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


class Exchange:
    """One question under way, with what has been said so far."""

    def __init__(self, asked: Asked, recorder: Recorder) -> None:
        self.id = new_id("chatcmpl")
        self.moment = now()
        self.asked = asked
        self.model = ""
        """Who answers; known once there is a slot."""
        self.said = ""
        self.finish: str | None = None
        self.usage = Usage()
        self._recorder = recorder
        self._draft: Experience | None = recorder.draft(self.id, self.moment, asked)

    @property
    def created(self) -> int:
        """Unix time, in seconds."""
        return int(self.moment.timestamp())

    async def keep(self) -> Kept:
        """Records it as far as it went, where it is to be recorded."""
        return await self._recorder.keep(self._draft, self.model, self.said, self.finish)

    def chunk(
        self, delta: Delta, finish: str | None = None, kept: Kept | None = None
    ) -> ChatCompletionChunk:
        """A piece of a stream."""
        return ChatCompletionChunk(
            id=self.id,
            object="chat.completion.chunk",
            created=self.created,
            model=self.model,
            choices=(ChunkChoice(delta=delta, finish_reason=finish),),
            usage=None if self.asked.with_usage else UNSET,
            bhavana=UNSET if kept is None else kept,
        )

    def usage_chunk(self) -> ChatCompletionChunk:
        """The last piece of a stream, for who asked what it took."""
        return msgspec.structs.replace(self.chunk(Delta()), choices=(), usage=self.usage)

    def completion(self, kept: Kept) -> envelope.ChatCompletion:
        """The whole answer."""
        said = envelope.Said(content=self.said)
        return envelope.ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=(envelope.Choice(message=said, finish_reason=self.finish or "stop"),),
            usage=self.usage,
            bhavana=kept,
        )


class Reply:
    """The answer on its way to the client: whole, or event by event."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def whole(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """All of it at once."""
        self.begun = True
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        head += [(name.lower().encode(), text.encode()) for name, text in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": head})
        await self._send({"type": "http.response.body", "body": body})

    async def event(self, data: bytes, *, last: bool = False) -> None:
        """A piece of a stream, which begins with the first one."""
        if not self.begun:
            self.begun = True
            start = {"type": "http.response.start", "status": 200, "headers": EVENTS}
            await self._send(start)
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def fail(self, problem: Problem) -> None:
        """An error in place of the answer, or at its end, where no `[DONE]` follows it."""
        status, headers, body = envelope.error(problem)
        if self.begun:
            await self.event(envelope.event(body), last=True)
        else:
            await self.whole(status, headers, body)
