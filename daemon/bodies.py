"""Request bodies: read under limits, unpacked, whole or line by line."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from daemon.problems import Problem

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_BODY_BYTES = 1_000_000
"""Of one JSON document, and of one line, after unpacking."""
MAX_STREAM_BYTES = 64_000_000
"""Of a stream of lines, after unpacking."""
MAX_LINES = 10_000
MAX_RATIO = 100
"""A packed body may unpack to at most so many times its size, beyond the first 64 KB."""
RATIO_FREE_BYTES = 65_536

JSON = "application/json"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
BEACON = "text/plain"
"""What a browser's sendBeacon may send across origins without asking first; JSON is in it."""


class Disconnected(Exception):
    """The client went away before its request was whole; nobody is left to answer."""


def media_type(headers: Mapping[bytes, bytes]) -> str:
    """The body's media type, known to be one of ours. Raises Problem 415."""
    given = headers.get(b"content-type", b"").decode("latin-1")
    media = given.partition(";")[0].strip().lower()
    if media not in (JSON, BEACON, *LINES):
        raise Problem(
            415,
            "unsupported_media_type",
            f"This takes {JSON} or {LINES[0]}, not {media[:80] or 'nothing'}.",
        )
    charset = given.lower().partition("charset=")[2].strip(' "').partition(";")[0].strip('" ')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise Problem(415, "unsupported_charset", "JSON comes as UTF-8.")
    return media


async def whole(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The body, unpacked. Raises Problem 400, 413, 415, Disconnected."""
    _refuse_announced(headers, MAX_BODY_BYTES)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if b"content-encoding" not in headers and len(body) <= MAX_BODY_BYTES:
            return body  # what nearly all requests are
    parts = [part async for part in _unpacked(headers, receive, message, MAX_BODY_BYTES)]
    return b"".join(parts)


async def lines(headers: Mapping[bytes, bytes], receive: Receive) -> AsyncIterator[bytes]:
    """The lines of the body as they arrive, without the empty ones. Raises as `whole` does."""
    rest = bytearray()
    count = 0
    async for part in _unpacked(headers, receive, await receive(), MAX_STREAM_BYTES):
        searched = len(rest)  # what was searched before is not searched again
        rest += part
        start = 0
        while (end := rest.find(b"\n", max(start, searched))) >= 0:
            count += 1
            line = _checked(bytes(rest[start:end]), count)
            if line.strip():
                yield line
            start = end + 1
        del rest[:start]
        if len(rest) > MAX_BODY_BYTES:
            _checked(bytes(rest), count + 1)
    if rest.strip():
        yield _checked(bytes(rest), count + 1)


def _checked(line: bytes, number: int) -> bytes:
    if number > MAX_LINES:
        raise Problem(
            413,
            "too_many_lines",
            f"A stream holds at most {MAX_LINES:,} lines.",
            hint="Send it in parts.",
        )
    if len(line) > MAX_BODY_BYTES:
        raise Problem(
            413,
            "line_too_large",
            f"Line {number} holds more than {MAX_BODY_BYTES:,} bytes.",
        )
    return line


def _refuse_announced(headers: Mapping[bytes, bytes], limit: int) -> None:
    """A body that says it is too large is not read at all."""
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and len(announced) < 20 and int(announced) > limit:
        raise _too_large(limit)


async def _unpacked(
    headers: Mapping[bytes, bytes], receive: Receive, message: Any, limit: int
) -> AsyncIterator[bytes]:
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if encoding not in ("gzip", "identity"):
        raise Problem(
            415,
            "unsupported_encoding",
            "A body comes plain or packed with gzip.",
            headers={"Accept-Encoding": "gzip"},
        )
    unpack = _Gzip(limit) if encoding == "gzip" else None
    size = 0
    while True:
        if message["type"] != "http.request":
            raise Disconnected
        part = message.get("body", b"")
        for piece in (part,) if unpack is None else unpack.feed(part):
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            yield piece
        if not message.get("more_body"):
            break
        message = await receive()
    if unpack is not None:
        unpack.end()


class _Gzip:
    """Unpacks bit by bit, and stops before a small body has become a large one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._packed = self._plain = 0
        self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def feed(self, part: bytes) -> list[bytes]:
        self._packed += len(part)
        pieces = []
        while part:
            try:
                piece = self._stream.decompress(part, 65_536)
            except zlib.error as error:
                raise Problem(400, "bad_gzip", f"The body is not valid gzip: {error}.") from error
            self._plain += len(piece)
            if self._plain > RATIO_FREE_BYTES + MAX_RATIO * self._packed:
                raise Problem(
                    413,
                    "gzip_ratio",
                    f"The body unpacks to more than {MAX_RATIO} times its size.",
                )
            if self._plain > self._limit:
                raise _too_large(self._limit)
            pieces.append(piece)
            part = self._stream.unconsumed_tail
        if self._stream.unused_data:
            raise Problem(400, "bad_gzip", "Something follows the end of the gzip stream.")
        return pieces

    def end(self) -> None:
        if not self._stream.eof:
            raise Problem(400, "bad_gzip", "The gzip stream ends too early.")


def _too_large(limit: int) -> Problem:
    return Problem(
        413, "body_too_large", f"A body holds at most {limit:,} bytes.", hint="Send it in parts."
    )
