"""The roster of hostile requests (hostile.py) against the real daemon, over raw sockets.

Each is refused as it should be, tells why, leaves no traceback behind and does no harm to the
next sender; all of them together, several times over, cost no memory.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from http.client import BadStatusLine, HTTPResponse, IncompleteRead
from itertools import count
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from store import keys
from store.events import Store

from .hostile import CLOSED, EXPERIENCES, MALFORMED, ROSTER, Hostile

PATIENCE_SECONDS = 60
ROUNDS = 3
MOST_GROWTH_KB = 64 * 1024
PROBLEM = {"type", "title", "status", "code", "detail"}
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
            sender = Thread(target=_deliver, args=(wire, hostile, self.key))
            sender.start()
            try:
                return _answer(wire)
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
        return [line for line in lines if "Traceback" in line or _level(line) >= "error"]

    def resident_kb(self) -> int:
        """The memory that the process holds now."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])
