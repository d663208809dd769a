"""What a hostile request is: what is sent to the door, and what it may answer.

A request is the bytes on the wire, or a function that makes them where they are many. KEY stands
where the sender's key belongs. Ids follow from the content, so a roster can be sent again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tests import canaries

KEY = b"THE-KEY"
JSON, TEXT, LINES = b"application/json", b"text/plain", b"application/x-ndjson"
MEGABYTE = 1_000_000
DEEP = 100_000

KEPT = {200, 201}
BAD = {400}
INVALID = {422}
REFUSED = {400, 422}
PARTLY = {207}
TOO_LARGE = {413}
UNSUPPORTED = {415}
UNKNOWN_KEY = {401}
LONG_HEADERS = {400, 413, 414, 431}
CLOSED = 0
"""Not a status: the connection ended without an answer, as HTTP lets it where a request is none."""
MALFORMED = {400, CLOSED}

Bytes = bytes | Callable[[], bytes]


class Hostile(NamedTuple):
    """One request, and the statuses that are right for it."""

    name: str
    wire: Bytes
    allowed: set[int]
    unfinished: bool = False
    """The sender ends its side before the request is whole."""

    def bytes_for(self, key: str) -> bytes:
        """What is sent, with this key in it."""
        wire = self.wire() if callable(self.wire) else self.wire
        return wire.replace(KEY, key.encode())


class Door(NamedTuple):
    """One of the two routes, and where its items hold text and a moment."""

    path: bytes
    text: str
    moment: str
    fields: dict[str, Any]

    def item(self, **changes: Any) -> bytes:
        """A good item with these changes."""
        given = self.fields | changes
        name = f"h-{zlib.crc32(repr(changes).encode()):08x}"
        return json.dumps({"id": name} | given).encode()

    def raw(self, field: str, value: bytes) -> bytes:
        """A good item with this JSON, which may be none, as the value of a field."""
        return self.item(**{field: f"@{zlib.crc32(value):08x}"}).replace(
            b'"@%08x"' % zlib.crc32(value), value
        )

    def post(self, name: str, body: Bytes, allowed: set[int], *head: bytes, media: bytes = JSON):
        """A well-formed request with this body; `head` are further lines of the head."""

        def wire() -> bytes:
            content = body() if callable(body) else body
            typed = (b"Content-Type: " + media,) if media else ()
            return request(self.path, content, *typed, b"Authorization: Bearer " + KEY, *head)

        return Hostile(f"{name} {self.path.decode()}", wire, allowed)


EXPERIENCES = Door(
    b"/v1/experiences",
    "response",
    "occurred_at",
    {
        "occurred_at": "2026-01-02T03:04:05Z",
        "source": "hostile",
        "messages": [{"role": "user", "content": canaries.SECRET}],
        "response": canaries.SENTENCE,
    },
)
FEEDBACK = Door(
    b"/v1/feedback",
    "text",
    "given_at",
    {
        "experience_id": "e-1",
        "kind": "comment",
        "given_at": "2026-01-02T03:04:05Z",
        "text": canaries.SENTENCE,
        "value": 1,
    },
)


def request(path: bytes, body: bytes = b"", *head: bytes, method: bytes = b"POST") -> bytes:
    """A request with a right Content-Length."""
    length = b"Content-Length: %d" % len(body)
    lines = (b"%s %s HTTP/1.1" % (method, path), b"Host: localhost", length, *head)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
