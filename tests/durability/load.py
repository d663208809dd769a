"""A load: clients that post experiences and send again whatever was not acknowledged.

Plain sockets under asyncio, in a thread of its own: one process posts thousands a second, and
the test beside it kills, stops and mounts. An id counts as acknowledged when an answer named it
as recorded or duplicate, whatever the answer's status.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from tests import canaries

CLIENTS = 16
USUAL_LISTS = (0.25, 5)
"""How many of the requests are lists, and how long these are at most."""
ANSWER_SECONDS = 60.0
PAUSE_SECONDS = 0.1
"""Between a refusal and the next attempt. Retry-After asks for more: here the server's recovery
is measured, not the clients' patience."""
PROBLEM = "application/problem+json"
KEPT = ("recorded", "duplicate")
TEXT = "What was said here is of no importance, but it has the length of a usual answer. " * 15


class Refusal(NamedTuple):
    """An answer that acknowledged nothing."""

    moment: float
    status: int
    seconds: float
    """How long the client waited for it."""
    retry_after: str | None


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    document: Any


def experience(name: str, text: str) -> dict[str, Any]:
    """An experience with this id; the same id and text make the same content."""
    return {
        "id": name,
        "occurred_at": "2026-01-02T03:04:05Z",
        "source": "load",
        "messages": [{"role": "user", "content": f"{canaries.SENTENCE} {name}"}],
        "response": f"{name}: {text}",
    }


class Load:
    """Clients that post to `url`, which may be gone for a while, from enter to exit."""

    def __init__(
        self,
        key: str,
        *,
        clients: int = CLIENTS,
        lists: tuple[float, int] = USUAL_LISTS,
        prefix: str = "load",
        text: str = TEXT,
    ) -> None:
        """`prefix` begins every id; another one makes other experiences."""
        self.url: str | None = None
        """Where the daemon listens now."""
        self.sent: set[str] = set()
        self.acknowledged: dict[str, float] = {}
        """Id -> moment of its first acknowledgement (time.monotonic)."""
        self.refusals: list[Refusal] = []
        self.wrong: Counter[str] = Counter()
        """Answers that should not occur: conflicts, internal errors, refused items."""
        self._key = key
        self._clients = clients
        self._list_share, self._longest_list = lists
        self._breaks: list[tuple[float, str]] = []
        self._prefix, self._text = prefix, text
        self._random = random.Random(prefix)
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.url = None
        self._finishing.set()
        self._thread.join()

    def finish(self, seconds: float = 30.0) -> None:
        """Posts nothing new; returns when everything that was sent is acknowledged."""
        self._finishing.set()
        self._thread.join(seconds)
        assert not self._thread.is_alive(), (
            f"{len(self.sent - self.acknowledged.keys())} stayed unacknowledged; {self.wrong},"
            f" last refusals {self.refusals[-3:]}, last breaks {self._breaks[-3:]}"
        )

    def acknowledged_since(self, moment: float) -> float | None:
        """The moment of the first acknowledgement after a moment; None when there is none yet."""
        # Dictionaries keep their order, and acknowledgements come in the order of time.
        last = None
        for at in reversed(list(self.acknowledged.values())):
            if at <= moment:
                break
            last = at
        return last

    def refused_since(self, moment: float, *statuses: int) -> list[Refusal]:
        """The refusals with one of these statuses after a moment."""
        return [r for r in list(self.refusals) if r.moment > moment and r.status in statuses]

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        line = _Line(self._key)
        count = 0
        while not self._finishing.is_set():
            many = self._random.random() < self._list_share
            wanted = self._random.randint(1, self._longest_list) if many else 1
            names = [f"{self._prefix}-{number}-{count + i}" for i in range(wanted)]
            count += wanted
            self.sent.update(names)
            items = [experience(name, self._text) for name in names]
            await self._deliver(line, json.dumps(items if many else items[0]).encode(), names)
        line.close()

    async def _deliver(self, line: _Line, body: bytes, names: list[str]) -> None:
        """Posts until every name is acknowledged or wrong, or the load is over."""
        while not (self.url is None and self._finishing.is_set()):
            if self.url is None:
                await asyncio.sleep(0.005)
                continue
            began = time.monotonic()
            try:
                answer = await line.post(self.url, body)
            except (OSError, EOFError) as error:
                self._breaks.append((time.monotonic(), repr(error)))
                line.close()
                await asyncio.sleep(0.01)
                continue
            self._note(answer, began)
            if answer.status not in (429, 500, 503):
                if not all(name in self.acknowledged for name in names):
                    self.wrong[f"{answer.status} without naming every id"] += 1
                return
            await asyncio.sleep(PAUSE_SECONDS)

    def _note(self, answer: Answer, began: float) -> None:
        moment = time.monotonic()
        for result in answer.document.get("results", [answer.document]):
            if result.get("status") in KEPT:
                self.acknowledged.setdefault(result["id"], moment)
        if answer.status in (429, 503):
            waited = answer.headers.get("retry-after")
            self.refusals.append(Refusal(moment, answer.status, moment - began, waited))
        elif answer.status >= 300 or answer.status == 207:
            self.wrong[f"{answer.status} {answer.document.get('code')}"] += 1


class _Line:
    """One kept-alive connection, opened when it is needed."""

    def __init__(self, key: str) -> None:
        self._head = (
            "POST /v1/experiences HTTP/1.1\r\nHost: bhavana\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {key}\r\nContent-Length: "
        ).encode()
        self._url = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def post(self, url: str, body: bytes) -> Answer:
        """Raises OSError (TimeoutError is one) or EOFError when there is no answer."""
        if url != self._url:
            self.close()
        async with asyncio.timeout(ANSWER_SECONDS):
            if self._streams is None:
                address = urlsplit(url)
                self._streams = await asyncio.open_connection(address.hostname, address.port)
                self._url = url
                here, there = map(self._streams[1].get_extra_info, ("sockname", "peername"))
                if here == there:  # TCP lets a client meet itself where nobody listens
                    raise ConnectionRefusedError("nobody listens")
            reader, writer = self._streams
            writer.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = (line.partition(":") for line in lines if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in fields}
            body = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        is_json = headers.get("content-type", "").startswith(("application/json", PROBLEM))
        return Answer(int(first.split()[1]), headers, json.loads(body) if is_json else {})
