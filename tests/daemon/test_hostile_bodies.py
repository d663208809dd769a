"""The roster of hostile requests (hostile/) against the real daemon, over raw sockets.

Each is refused as it should be, tells why, leaves no traceback behind and does no harm to the
next sender; all of them together, several times over, cost no memory.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import BadStatusLine, HTTPResponse, IncompleteRead
from itertools import count
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from store import keys
from store.events import Store

from .hostile.request import CLOSED, EXPERIENCES, MALFORMED, Hostile
from .hostile.roster import ROSTER

PATIENCE_SECONDS = 30
ROUNDS = 3
MOST_GROWTH_KB = 64 * 1024
PROBLEM = {"type", "title", "status", "code", "detail"}
FAULTS = {"error", "critical"}
NOT_KEPT = {"conflict", "invalid", "refused"}


class Answer(NamedTuple):
    """What came back; the status is CLOSED where the connection ended without an answer."""

    status: int
    media: str
    body: bytes


class Victim(NamedTuple):
    """A running daemon, a key of it, and numbers not yet used."""

    daemon: object
    key: str
    fresh: Iterator[int]

    def send(self, hostile: Hostile) -> Answer:
        """Sends one request on a connection of its own, and reads one answer to it."""
        address = urlsplit(self.daemon.url)
        with socket.create_connection(
            (address.hostname, address.port), timeout=PATIENCE_SECONDS
        ) as wire:
            # While we read, since a daemon may answer a long body before it has come.
            request = hostile.bytes_for(self.key)
            sender = Thread(target=_deliver, args=(wire, request, hostile.unfinished))
            sender.start()
            try:
                return _answer(wire, to_head=request.startswith(b"HEAD "))
            finally:
                with suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)
                sender.join()

    def serves(self) -> bool:
        """True when a good request is kept, as if nothing had happened."""
        body = EXPERIENCES.item(id=f"healthy-{next(self.fresh)}")
        return self.send(EXPERIENCES.post("healthy", body, {201})).status == 201

    def faults(self, since: int = 0) -> list[str]:
        """What the log holds after this many characters that speaks of a fault of ours."""
        lines = self.daemon.log()[since:].splitlines()
        return [line for line in lines if "Traceback" in line or _level(line) in FAULTS]

    def resident_kb(self) -> int:
        """The memory that the process holds now."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])


@pytest.fixture
def victim(serving, tmp_path):
    """A daemon, with a key that may ingest and give feedback."""
    with _attacked(serving, tmp_path / "data") as ready:
        yield ready


@pytest.fixture(scope="module")
def target(serving, tmp_path_factory):
    """The daemon that all single requests of this file go to, in whatever order.

    Those that send the good item again, or other content under its id, find it there.
    """
    with _attacked(serving, tmp_path_factory.mktemp("hostile") / "data") as ready:
        assert ready.send(EXPERIENCES.post("first", EXPERIENCES.item(), {201})).status == 201
        yield ready


@contextmanager
def _attacked(serving, data: Path) -> Iterator[Victim]:
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        _, key = keys.create(
            store, name="hostile", scopes=("ingest", "feedback"), source="hostile", actor="test"
        )
    # The roster holds more items than one key may send in its time.
    with serving(data, BHAVANA_LIMITS__KEY_BURST="1000000000") as daemon:
        yield Victim(daemon, key, count())


@pytest.mark.parametrize("hostile", ROSTER, ids=lambda hostile: hostile.name)
def test_a_hostile_request_is_answered_as_it_should_be(target, hostile):
    """A status that is right for it, told in the house's way; no fault of ours, no harm done."""
    seen = len(target.daemon.log())
    answer = target.send(hostile)
    assert answer.status in hostile.allowed, answer
    if answer.status >= 400:
        _require_problem(answer, hostile)
    if answer.status == 207:
        _require_results(answer)
    assert target.serves()
    assert target.faults(since=seen) == []


def _require_problem(answer: Answer, hostile: Hostile) -> None:
    """A problem document; a pointer leads to what is invalid. Broken HTTP gets plain words."""
    if answer.media.startswith("text/plain") and hostile.allowed & MALFORMED:
        return
    assert answer.media == "application/problem+json", answer
    if not answer.body:  # the answer to HEAD
        return
    document = json.loads(answer.body)
    assert document.keys() >= PROBLEM
    assert document["status"] == answer.status
    assert document["code"]
    assert document["detail"]
    if answer.status == 422:
        assert document["pointer"] == "" or document["pointer"].startswith("/"), document


def _require_results(answer: Answer) -> None:
    """A result for each item; one that was not kept tells why, and where if it is invalid."""
    results = json.loads(answer.body)["results"]
    lost = [result for result in results if result["status"] in NOT_KEPT]
    assert lost
    for result in lost:
        assert result["code"], result
        assert result["detail"], result


def test_the_roster_costs_no_memory_and_leaves_no_fault(victim):
    """All of it, several times over, on one daemon: it neither grows, nor fails, nor stops."""
    assert victim.serves()
    before = victim.resident_kb()
    for _ in range(ROUNDS):
        refused = [h.name for h in ROSTER if victim.send(h).status >= 500]
        assert refused == []
    assert victim.serves()
    assert victim.faults() == []
    assert victim.resident_kb() - before < MOST_GROWTH_KB


def _deliver(wire: socket.socket, request: bytes, unfinished: bool) -> None:
    with suppress(OSError):  # the daemon may close before it has read all, which is its right
        wire.sendall(request)
        if unfinished:
            wire.shutdown(socket.SHUT_WR)


def _answer(wire: socket.socket, *, to_head: bool) -> Answer:
    # Closed by hand: it holds the socket open, past the end of the connection's own block.
    with closing(HTTPResponse(wire, method="HEAD" if to_head else None)) as response:
        try:
            response.begin()
            body = response.read()
        except (BadStatusLine, ConnectionError, IncompleteRead):
            return Answer(CLOSED, "", b"")
        return Answer(response.status, response.headers.get("content-type", ""), body)


def _level(line: str) -> str:
    with suppress(json.JSONDecodeError):
        return json.loads(line).get("level", "")
    return ""
