"""The two routes: `POST /v1/chat/completions` and `GET /v1/models`, as ASGI applications."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import structlog

from daemon import bodies
from daemon.bodies import Disconnected, Receive
from daemon.chat import envelope, figures, request, upstream
from daemon.chat.envelope import ChatCompletionChunk, Delta
from daemon.chat.exchange import Exchange, Reply
from daemon.chat.keeper import Keeper, Stage
from daemon.chat.lineup import Voice
from daemon.chat.recording import Recorder
from daemon.chat.settings import ServingSettings
from daemon.chat.slots import Slots
from daemon.cors import Scope, Send
from daemon.ingest import House
from daemon.keyring import Caller
from daemon.problems import Problem, problem_of
from daemon.settings import Settings
from store.errors import BhavanaError

SCOPE = "chat"
log = structlog.get_logger()


class ChatDoor:
    """The route on which people are answered."""

    def __init__(self, house: House, keeper: Keeper, settings: Callable[[], Settings]) -> None:
        self._house = house
        self._keeper = keeper
        self._settings = settings
        self._slots = Slots()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; a problem is an answer, too."""
        started = time.perf_counter()
        reply = Reply(send)
        try:
            result = await self._answer(scope, receive, reply, started)
        except Disconnected:
            result = "hung_up"
        except Exception as error:  # noqa: BLE001  # the edge: whatever it is, the caller is told
            problem = _told(error, scope)
            result = "failed" if problem.status >= 500 else "refused"
            await reply.fail(problem)
        figures.REQUESTS.labels(result).inc()
        figures.SECONDS.observe(time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply, started: float) -> str:
        settings, caller = await admitted(self._settings, self._house, scope)
        headers = dict(scope["headers"])
        if bodies.media_type(headers) != bodies.JSON:
            raise Problem(415, "unsupported_media_type", f"This takes {bodies.JSON}.")
        asked, given = request.read(await bodies.whole(headers, receive), settings)
        wishes = request.wishes(given, headers)
        exchange = Exchange(asked, Recorder(self._house, settings, caller, wishes))
        person = {} if wishes.subject is None else {wishes.subject: 1}
        self._house.limits.take(caller.key, 1, person)
        who = wishes.conversation or wishes.subject or exchange.id
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            async with self._slots.one(settings):
                with self._keeper.enter() as stage:
                    voice = _voice(stage, asked.model, who)
                    exchange.model = voice.release or stage.server.job.base.name
                    await self._speak(exchange, stage, voice, reply, gone, settings, started)
        except BhavanaError:
            if exchange.said and reply.begun:
                await exchange.keep()
            raise
        finally:
            gone.cancel()
        return await _finished(exchange, reply)

    async def _speak(
        self,
        exchange: Exchange,
        stage: Stage,
        voice: Voice,
        reply: Reply,
        gone: asyncio.Future[None],
        settings: ServingSettings,
        started: float,
    ) -> None:
        """Takes the answer piece by piece, and passes it on where a stream was asked for."""
        try:
            async with (
                asyncio.timeout(settings.answer_seconds),
                aclosing(upstream.answer(stage.server, exchange.asked, voice.release)) as pieces,
            ):
                async for piece in pieces:
                    if gone.done():
                        return
                    if not exchange.said and piece.text:
                        figures.FIRST_SECONDS.observe(time.perf_counter() - started)
                    await _take(exchange, piece, reply)
        except TimeoutError as error:
            raise Problem(
                504,
                "too_slow",
                f"The answer took longer than {settings.answer_seconds:.0f} s.",
                hint="Ask for a shorter one (max_tokens).",
            ) from error


class ModelsDoor:
    """The route that lists what can be talked to."""

    def __init__(self, house: House, keeper: Keeper, settings: Callable[[], Settings]) -> None:
        self._house = house
        self._keeper = keeper
        self._settings = settings

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answers one request."""
        reply = Reply(send)
        try:
            await admitted(self._settings, self._house, scope)
            with self._keeper.enter() as stage:
                body = msgspec.json.encode(envelope.models(stage.lineup))
            await reply.whole(200, {}, body)
        except Exception as error:  # noqa: BLE001  # the edge
            await reply.fail(_told(error, scope))


async def admitted(
    settings: Callable[[], Settings], house: House, scope: Scope
) -> tuple[ServingSettings, Caller]:
    """The settings in force, and who asks. Raises Problem 401, 403, 404 or 503."""
    serving = settings().serving
    if not serving.enabled:
        raise Problem(
            404,
            "serving_disabled",
            "This daemon does not answer people.",
            hint="Its operator may set serving.enabled = true.",
        )
    house.require_open()
    caller = await house.ring.caller(dict(scope["headers"]), scope["query_string"], SCOPE)
    return serving, caller


def _voice(stage: Stage, model: str, who: str) -> Voice:
    line = stage.lineup.line(model)
    if line is None:
        known = ", ".join(one.id for one in envelope.models(stage.lineup).data)
        raise Problem(
            404,
            "model_not_found",
            "There is no such model here.",
            hint=f"Name one of {known}; `GET /v1/models` lists them.",
            pointer="/model",
        )
    return stage.lineup.voice(line, who)


async def _take(exchange: Exchange, piece: upstream.Piece, reply: Reply) -> None:
    if piece.text:
        if exchange.asked.stream:
            if not exchange.said:
                await _send(reply, exchange.chunk(Delta(role="assistant", content="")))
            await _send(reply, exchange.chunk(Delta(content=piece.text)))
        exchange.said += piece.text
    if piece.finish is not None:
        exchange.finish = piece.finish
    if piece.usage is not None:
        exchange.usage = piece.usage
        figures.TOKENS.labels("prompt").inc(piece.usage.prompt_tokens)
        figures.TOKENS.labels("answer").inc(piece.usage.completion_tokens)


async def _finished(exchange: Exchange, reply: Reply) -> str:
    """Keeps the exchange, then ends the answer: its end says that it was kept.

    Of an answer that its client did not wait for is kept what was sent: without a stream nothing.
    """
    if exchange.finish is None and not exchange.asked.stream:
        return "hung_up"
    kept = await exchange.keep()
    if exchange.finish is None:
        return "hung_up"
    if not exchange.asked.stream:
        await reply.whole(200, {}, msgspec.json.encode(exchange.completion(kept)))
        return "answered"
    await _send(reply, exchange.chunk(Delta(), exchange.finish, kept))
    if exchange.asked.with_usage:
        await _send(reply, exchange.usage_chunk())
    await reply.event(envelope.END, last=True)
    return "answered"


async def _send(reply: Reply, chunk: ChatCompletionChunk) -> None:
    await reply.event(envelope.event(chunk))


async def _hung_up(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _told(error: Exception, scope: Scope) -> Problem:
    if isinstance(error, BhavanaError):
        return problem_of(error)
    log.error("request_failed", path=scope["path"], exc_info=error)
    return problem_of(BhavanaError())
