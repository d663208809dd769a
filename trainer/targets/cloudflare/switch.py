"""Moves a line's pointer, and has seen it: in KV, and in what the Worker says it serves.

KV is eventually consistent: elsewhere a change takes a minute or more to be seen, and there is no
compare-and-set. The journal is the truth; this is a projection of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from store.errors import BhavanaError, Unavailable
from trainer.targets.cloudflare.client import Client
from trainer.targets.cloudflare.pointer import Pointer, decoded, encoded
from trainer.targets.cloudflare.settings import CloudflareSettings
from trainer.targets.http import Connection, Server


class Reported(Struct):
    """What the Worker says of a line: /version."""

    version: str
    canary: str | None = None


class Switch:
    """The pointer of one line."""

    def __init__(self, api: Client, settings: CloudflareSettings, line: str) -> None:
        self._api = api
        self._settings = settings
        self._line = line
        self._key = settings.key_of(line)

    def read(self) -> Pointer | None:
        """Where it points; None where nothing was ever released on the line.

        Raises IntegrityError for a value that is not ours.
        """
        value = self._api.read(self._key)
        return None if value is None else decoded(value, self._key)

    def move(self, pointer: Pointer, there: Pointer | None) -> None:
        """Points there, unless it does already, and returns when that is seen.

        Raises Unavailable where it is not seen in time; then it is not known who answers.
        """
        if there is not None and replace(there, promoted_at=pointer.promoted_at) == pointer:
            pointer = there  # a key may be written once a second
        else:
            self._api.write(self._key, encoded(pointer))
        if self._api.dry:
            return
        self._await(lambda: self.read() == pointer, "KV")
        if self._settings.worker_url:
            with _Worker(self._settings) as worker:
                self._await(lambda: worker.serves(pointer, self._line), "the Worker")

    def _await(self, seen: Callable[[], bool], who: str) -> None:
        deadline = time.monotonic() + self._settings.switch_seconds
        while not _is_so(seen, last := time.monotonic() >= deadline):
            if last:
                raise Unavailable(
                    f"The pointer {self._key} is moved, and {who} did not say so in "
                    f"{self._settings.switch_seconds:g} s.",
                    hint="Does the Worker read this namespace and key? switch_seconds waits "
                    "longer.",
                )
            time.sleep(self._settings.poll_seconds)


class _Worker:
    """Asked which version it serves; it never gets the account's token."""

    def __init__(self, settings: CloudflareSettings) -> None:
        seconds = settings.timeout_seconds
        self._server = Server(
            "The Worker",
            Connection(url=settings.worker_url, answer_seconds=seconds, retries=0),
            _unavailable,
        )

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def serves(self, pointer: Pointer, line: str) -> bool:
        """Whether it says so. Raises Unavailable."""
        response = self._server.ask("GET", "version", params={"line": line})
        try:
            said = msgspec.json.decode(response.content, type=Reported)
        except msgspec.DecodeError as error:
            raise Unavailable(f"The Worker's /version is not ours: {error}.") from error
        canary = pointer.canary and pointer.canary.version
        return (said.version, said.canary) == (pointer.version, canary)


def _is_so(seen: Callable[[], bool], last: bool) -> bool:
    """Until the last look an answer that is none is only one that is not there yet."""
    try:
        return seen()
    except Unavailable:
        if last:
            raise
        return False


def _unavailable(response: httpx.Response, words: str) -> BhavanaError:
    return Unavailable(f"The Worker answers HTTP {response.status_code}: {words}.")
