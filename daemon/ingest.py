"""The ingest routes: `POST /v1/experiences` and `POST /v1/feedback`.

Plain ASGI with msgspec, for speed. 2xx leaves only after the commit: what was answered is on
disk. One object; or a list, or lines of NDJSON, with a result for each item.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import structlog

from daemon import bodies, metrics
from daemon.bodies import Disconnected, Receive
from daemon.cors import App, CrossOrigin, Send
from daemon.keyring import Caller, KeyRing
from daemon.limits import Limits, LimitSettings
from daemon.problems import Problem, pointer_of, problem_of, respond
from daemon.redaction import Redactor
from daemon.replies import Replies
from daemon.results import (
    Result,
    answer_for_many,
    answer_for_one,
    id_in,
    refused,
    result_of,
)
from daemon.texts import is_plain, normal
from store import experiences
from store.errors import BhavanaError, QueueFull, Unavailable
from store.events import Store
from store.log import Appended, Fact, Line, line
from store.records import Assessment, Experience, Feedback, new_id
from store.redaction import RedactionSettings
from store.sources import OURS

log = structlog.get_logger()
MAX_ITEMS = 500
"""Items of a list, and lines that are committed together."""

Item = Any
"""An Experience or a Feedback, whichever the door is for."""
Judge = Callable[[Sequence[Experience]], list[Assessment]]
"""Says what the panel finds; blocks."""
MOST_JUDGING = 8
"""Requests whose words may wait to be judged."""
OURSELVES = "bhavana"
"""The actor of what the daemon finds out by itself."""


def unable(_: Sequence[Experience]) -> list[Assessment]:
    """The judge of a house without scorers."""
    raise Unavailable("Nobody is here to assess words before they are dropped.")


class Kept(NamedTuple):
    """An item on its way into the log, or the result that says why it does not get there."""

    id: str
    line: Line | None
    result: Result | None
    subject: str | None = None


class Door:
    """One ingest route, as an ASGI application."""

    def __init__(
        self,
        house: House,
        *,
        kind: type[Experience] | type[Feedback],
        scope: str,
        prefix: str,
        fact: Callable[[Any], Fact],
        check: Callable[[Caller, Any], None],
    ) -> None:
        self._house = house
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind)
        self._scope = scope
        self._prefix = prefix
        self._fact = fact
        self._check = check
        name = kind.__name__.lower()
        self._seconds = metrics.REQUEST_SECONDS.labels(name)
        self._received = {
            status: metrics.RECEIVED.labels(name, status)
            for status in ("recorded", "duplicate", "conflict", "erased", "invalid", "refused")
        }

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request; a problem is an answer, too."""
        started = time.perf_counter()
        headers = dict(scope["headers"])
        try:
            status, body = await self._answer(scope, headers, receive)
        except Disconnected:
            return
        except BhavanaError as error:
            await respond(problem_of(error))(scope, receive, send)
        except Exception:  # the edge: whatever it is, the caller is told
            log.exception("request_failed", path=scope["path"])
            await respond(problem_of(BhavanaError()))(scope, receive, send)
        else:
            await _send_json(send, status, body)
        finally:
            self._seconds.observe(time.perf_counter() - started)

    async def _answer(
        self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes], receive: Receive
    ) -> tuple[int, bytes]:
        house = self._house
        house.require_open()
        caller = await house.ring.caller(headers, scope["query_string"], self._scope)
        media = bodies.media_type(headers)
        if media in bodies.LINES:
            return answer_for_many(await self._stream(caller, headers, receive))
        body = await bodies.whole(headers, receive)
        if body.lstrip()[:1] != b"[":
            aside: list[Experience] = []
            item = self._read(caller, body, aside, headers.get(b"idempotency-key"))
            house.limits.take(caller.key, 1, {} if item.subject is None else {item.subject: 1})
            lines = [line(self._fact(item), caller.actor), *await house.judged(aside)]
            appended = (await house.append(lines))[0]
            self._received[appended.status].inc()
            return answer_for_one(item.id, appended)
        values = _decode(body, list[msgspec.Raw])
        if not 0 < len(values) <= MAX_ITEMS:
            raise Problem(
                422,
                "bad_count",
                f"A list holds 1 to {MAX_ITEMS} items, this one {len(values)}.",
                hint="Send it in parts, or as NDJSON.",
                pointer="",
            )
        return answer_for_many(await self._keep(caller, [bytes(v) for v in values]))

    async def _stream(
        self, caller: Caller, headers: dict[bytes, bytes], receive: Receive
    ) -> list[Result]:
        """Keeps lines as they arrive; when that stops halfway, says what was kept."""
        results: list[Result] = []
        batch: list[bytes] = []
        size = 0
        try:
            async for text in bodies.lines(headers, receive):
                batch.append(text)
                size += len(text)
                if len(batch) >= MAX_ITEMS or size >= bodies.MAX_BODY_BYTES:
                    results += await self._keep(caller, batch)
                    batch, size = [], 0
            if batch:
                results += await self._keep(caller, batch)
        except BhavanaError as error:
            problem = problem_of(error)
            problem.extra["results"] = msgspec.to_builtins(results)
            raise problem from error
        if not results:
            raise Problem(422, "bad_count", "The stream holds no item.", pointer="")
        return results

    async def _keep(self, caller: Caller, texts: Sequence[bytes]) -> list[Result]:
        """Keeps what can be kept of the items, in one commit; a result for each."""
        aside: list[Experience] = []
        items = [self._prepared(caller, text, aside) for text in texts]
        people = Counter(item.subject for item in items if item.subject is not None)
        self._house.limits.take(caller.key, len(texts), people)
        lines = [item.line for item in items if item.line is not None]
        lines += await self._house.judged(aside)
        appended = iter(await self._house.append(lines) if lines else ())
        results = [item.result or result_of(item.id, next(appended)) for item in items]
        for result in results:
            self._received[result.status].inc()
        return results

    def _prepared(self, caller: Caller, text: bytes, aside: list[Experience]) -> Kept:
        try:
            item = self._read(caller, text, aside)
        except BhavanaError as error:
            problem = problem_of(error)
            if problem.status in (429, 500, 503):
                raise
            return Kept("", None, refused(id_in(text), problem))
        return Kept(item.id, line(self._fact(item), caller.actor), None, item.subject)

    def _read(
        self, caller: Caller, text: bytes, aside: list[Experience], name: bytes | None = None
    ) -> Item:
        """The item as it will be kept; put aside, too, when that is without its words.

        An id is given where the client sent none; such a send is not idempotent. Raises Problem.
        """
        item: Item
        try:
            item = self._decoder.decode(text)
        except msgspec.ValidationError:
            item = self._filled(caller, text, name)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_json(error) from error
        self._check(caller, item)
        if not is_plain(text):
            item = normal(item)
        return self._house.accept(item, getattr(item, "source", caller.key.source), aside)

    def _filled(self, caller: Caller, text: bytes, name: bytes | None) -> Item:
        """The item with what the client may leave out: its id, and the source of its key."""
        value = _decode(text, Any)
        if isinstance(value, dict):
            if "id" not in value:
                value["id"] = name.decode("latin-1") if name else new_id(self._prefix)
            if self._kind is Experience and "source" not in value and caller.key.source:
                value["source"] = caller.key.source
        try:
            return msgspec.convert(value, self._kind)
        except msgspec.ValidationError as error:
            where, reason = pointer_of(error)
            raise Problem(422, "invalid", reason + ".", pointer=where) from error


class House:
    """What both doors share."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        limits: Limits,
        redact: Redactor,
        judge: Judge,
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        self.store = store
        self.ring = ring
        self.limits = limits
        self._redact = redact
        self._judge = judge
        self._judging = 0
        # A thread of its own: it is slow, and everybody else's questions share the others.
        self._judges = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._replies = Replies()
        self._is_open = is_open

    def apply(self, limits: LimitSettings, redaction: RedactionSettings) -> None:
        """Holds what comes from now on to these settings. Safe from any thread."""
        self.limits.settings = limits
        self._redact = Redactor(redaction)

    def require_open(self) -> None:
        """Raises Problem 503 while the daemon starts or stops."""
        if not self._is_open():
            raise Problem(
                503,
                "not_ready",
                "The daemon is starting or stopping.",
                hint="Send again in a moment; nothing was kept.",
                headers={"Retry-After": "1"},
            )

    async def append(self, lines: Sequence[Line]) -> list[Appended]:
        """Appends and waits for the commit, without a thread of its own."""
        future, done = self._replies.expect()
        self.store.append_soon(lines, done)
        found: list[Appended] = await future
        return found

    async def judged(self, aside: Sequence[Experience]) -> list[Line]:
        """What the panel says of words before they are gone. Raises Unavailable."""
        if not aside:
            return []
        if self._judging >= MOST_JUDGING:
            raise QueueFull
        self._judging += 1
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._judges, self._judge, aside)
        finally:
            self._judging -= 1
        return judged_aside(found)

    def accept(self, item: Item, source: str | None, aside: list[Experience]) -> Item:
        """The item with its parts fitting each other, its moment in UTC and secrets redacted."""
        return admitted(item, source, self._redact, aside)


def admitted(item: Item, source: str | None, redact: Redactor, aside: list[Experience]) -> Item:
    """The item with its parts fitting each other, its moment in UTC and secrets redacted; put
    aside, too, when that is without its words. Raises Problem, Rejected.
    """
    if isinstance(item, Feedback):
        fault = item.fault()
        if fault is not None:
            raise Problem(422, "invalid", fault[1] + ".", pointer=fault[0])
        moment = in_utc(item.given_at, "/given_at")
        item = msgspec.structs.replace(item, given_at=moment)
    else:
        moment = in_utc(item.occurred_at, "/occurred_at")
        if moment is not item.occurred_at:
            item = msgspec.structs.replace(item, occurred_at=moment)
    if isinstance(item, Experience) and redact.withholds(source):
        aside.append(item)
    return redact(item, source)


def judged_aside(found: Sequence[Assessment]) -> list[Line]:
    """What the panel said of words that are gone."""
    facts = [experiences.judged(assessment) for assessment in found]
    # Along with its words' own record: what is refused has no assessment either.
    return [line(msgspec.structs.replace(fact, along_with=fact.about), OURSELVES) for fact in facts]


def doors(house: House) -> dict[str, App]:
    """The two routes, by path."""
    posts = Door(
        house,
        kind=Experience,
        scope="ingest",
        prefix="exp",
        fact=experiences.recorded,
        check=_may_claim,
    )
    feedback = Door(
        house,
        kind=Feedback,
        scope="feedback",
        prefix="fb",
        fact=experiences.given,
        check=_may_judge,
    )
    return {
        "/v1/experiences": CrossOrigin(posts, house.ring),
        "/v1/feedback": CrossOrigin(feedback, house.ring),
    }


# --- who may say what ---------------------------------------------------------------------


def _may_claim(caller: Caller, e: Experience) -> None:
    """A key speaks for its source; the house's own sources are held to milder bars."""
    key = caller.key
    if caller.operates or (e.source == key.source):
        return
    if key.source is None and e.source not in OURS:
        return  # made before keys had sources
    raise Problem(
        403,
        "wrong_source",
        f"This key posts for the source {key.source!r} only."
        if key.source
        else f"The source {e.source!r} needs a key with the scope operate.",
        hint="Leave `source` out, or make a key for it: `bhavana keys create --source`.",
        pointer="/source",
    )


def _may_judge(caller: Caller, f: Feedback) -> None:
    if caller.conversation is not None and f.conversation_id != caller.conversation:
        raise Problem(
            403,
            "wrong_conversation",
            "This token gives feedback on its own conversation only.",
            hint="Send conversation_id as the token's server named it.",
            pointer="/conversation_id",
        )


def in_utc(moment: datetime, pointer: str) -> datetime:
    """The moment in UTC, so that one moment has one content hash whatever its zone."""
    if moment.tzinfo is UTC:
        return moment
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise Problem(422, "invalid", "This moment is out of range.", pointer=pointer) from error


# --- JSON in and out ----------------------------------------------------------------------


def _decode(text: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        where, reason = pointer_of(error)
        raise Problem(422, "invalid", f"{reason}.", pointer=where) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_json(error) from error


def _bad_json(error: Exception) -> Problem:
    return Problem(400, "bad_json", f"This is not valid JSON: {error}.")


async def _send_json(send: Send, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
