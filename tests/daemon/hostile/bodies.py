"""Hostile bodies: their size, their media type, their encoding, and lines of NDJSON."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator

from .request import (
    BAD,
    DEEP,
    INVALID,
    JSON,
    KEPT,
    KEY,
    LINES,
    MEGABYTE,
    PARTLY,
    REFUSED,
    TEXT,
    TOO_LARGE,
    UNSUPPORTED,
    Door,
    Hostile,
)


def sizes(d: Door) -> Iterator[Hostile]:
    """Bodies at the limit and far over it."""
    good = d.item()
    fill = MEGABYTE - len(good)
    chunked = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" % d.path
    chunked += b"Authorization: Bearer " + KEY + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield d.post("size: 1 MB", lambda: good + b" " * fill, KEPT)
    yield d.post("size: 1 MB and a byte", lambda: good + b" " * (fill + 1), TOO_LARGE)
    yield d.post("size: as text", lambda: good + b" " * (fill + 1), TOO_LARGE, media=TEXT)
    yield d.post("size: 20 MB of text", lambda: d.item(x="x" * 20 * MEGABYTE), TOO_LARGE)
    yield d.post("size: 20 MB of zeros", lambda: bytes(20 * MEGABYTE), TOO_LARGE)
    yield Hostile(
        f"size: 20 MB in chunks {d.path.decode()}",
        lambda: chunked + (b"10000\r\n" + b" " * 65_536 + b"\r\n") * 320 + b"0\r\n\r\n",
        TOO_LARGE,
    )
    yield Hostile(
        f"size: 10,000 chunks of a byte {d.path.decode()}",
        lambda: chunked + b"1\r\n \r\n" * 10_000 + b"%x\r\n%s\r\n0\r\n\r\n" % (len(good), good),
        KEPT,
    )


def media(d: Door) -> Iterator[Hostile]:
    """Content types and character sets."""
    good = d.item()
    for name, kind, body, allowed in (
        ("none", b"", good, UNSUPPORTED),
        ("text/plain", TEXT, good, KEPT),
        ("text/plain, no JSON", TEXT, b"hello", BAD),
        ("text/plain in UTF-16", TEXT + b"; charset=utf-16", good, UNSUPPORTED | KEPT),
        ("text/html", b"text/html", good, UNSUPPORTED),
        ("a form", b"application/x-www-form-urlencoded", good, UNSUPPORTED),
        ("a form of parts", b"multipart/form-data; boundary=x", b"--x--", UNSUPPORTED),
        ("a relative", b"application/vnd.api+json", good, UNSUPPORTED),
        ("everything", b"*/*", good, UNSUPPORTED),
        ("two in one", b"application/json, text/plain", good, UNSUPPORTED),
        ("two", b"application/json\r\nContent-Type: text/html", good, UNSUPPORTED | KEPT),
        ("nothing but a mark", b";", good, UNSUPPORTED),
        ("marks at its end", b"application/json;;;==;", good, KEPT | UNSUPPORTED),
        ("long", b"application/json; a=" + b"x" * 20_000, good, KEPT | UNSUPPORTED | {431, 400}),
        ("not ASCII", b"application/json; a=\xff\xfe", good, KEPT | UNSUPPORTED | BAD),
        ("UTF-16", JSON + b"; charset=utf-16", good.decode().encode("utf-16"), {400, 415}),
        ("said to be UTF-16", JSON + b"; charset=utf-16", good, KEPT | {400, 415}),
        ("said to be UTF-7", JSON + b"; charset=utf-7", good, KEPT | {400, 415}),
        ("an unknown set", JSON + b"; charset=klingon", good, KEPT | {400, 415}),
    ):
        yield d.post(f"media: {name}", body, allowed, media=kind)


def bomb(size: int) -> bytes:
    """White space that unpacks to this many bytes, about a thousandth on the wire."""
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(b" " * MEGABYTE) for _ in range(size // MEGABYTE)]
    return b"".join(parts) + packer.flush()


def encodings(d: Door) -> Iterator[Hostile]:
    """Compressed bodies, broken ones, and those that are said to be compressed."""
    good = d.item()
    packed = gzip.compress(good, mtime=0)
    twice = gzip.compress(gzip.compress(bytes(50 * MEGABYTE), mtime=0), mtime=0)
    for name, encoding, body, allowed in (
        ("gzip", b"gzip", packed, KEPT),
        ("GZIP", b"GZIP", packed, KEPT),
        ("gzip of 1 MB and a byte", b"gzip", lambda: bomb(MEGABYTE * 2), TOO_LARGE | BAD),
        ("a bomb of 100 MB", b"gzip", lambda: bomb(100 * MEGABYTE), TOO_LARGE | BAD),
        ("a bomb in a bomb", b"gzip", twice, TOO_LARGE | BAD),
        ("a bomb in a bomb, said twice", b"gzip, gzip", twice, {400, 413, 415}),
        ("two members", b"gzip", gzip.compress(b" ", mtime=0) + packed, KEPT | BAD),
        ("10,000 empty members", b"gzip", gzip.compress(b"", mtime=0) * 10_000, {400, 413}),
        ("cut in the middle", b"gzip", packed[: len(packed) // 2], BAD),
        ("without its trailer", b"gzip", packed[:-8], BAD),
        ("a wrong checksum", b"gzip", packed[:-8] + bytes(4) + packed[-4:], BAD),
        ("a wrong length", b"gzip", packed[:-4] + bytes(4), BAD),
        ("a wrong first byte", b"gzip", b"\x1e" + packed[1:], BAD),
        ("only a header", b"gzip", packed[:10], BAD),
        ("a header without an end", b"gzip", b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 9000, BAD),
        ("something after it", b"gzip", packed + b"garbage", BAD | KEPT),
        ("not packed", b"gzip", good, BAD),
        ("empty", b"gzip", b"", BAD),
        ("noise", b"gzip", packed[:10] + random.Random(7).randbytes(5000), BAD),
        ("deflate", b"deflate", zlib.compress(good), UNSUPPORTED),
        ("br", b"br", packed, UNSUPPORTED),
        ("zstd", b"zstd", packed, UNSUPPORTED),
        ("unknown", b"x" * 1000, packed, UNSUPPORTED),
        ("a list", b"gzip, identity", packed, UNSUPPORTED | KEPT),
        ("identity", b"identity", good, KEPT | UNSUPPORTED),
        ("nothing", b"", good, KEPT | UNSUPPORTED),
        ("not ASCII", b"\xff", good, UNSUPPORTED | BAD),
    ):
        head = b"Content-Encoding: " + encoding
        yield d.post(f"encoding: {name}", body, allowed, head)


def lines(d: Door) -> Iterator[Hostile]:
    """NDJSON: a result for each line, and limits."""
    a, b = d.item(), d.item(id="h-line")
    large, other = d.item(x="x" * 60_000), d.item(id="h-two", **{d.text: "Other"})

    def many(count: int) -> Callable[[], bytes]:
        return lambda: b"\n".join(d.item(id=f"h-line-{i}") for i in range(count))

    for name, body, allowed in (
        ("good", a + b"\n" + b + b"\n", KEPT),
        ("no newline at the end", a + b"\n" + b, KEPT),
        ("CRLF", a + b"\r\n" + b + b"\r\n", KEPT),
        ("empty lines", b"\n" + a + b"\n\n\n" + b + b"\n\n", KEPT),
        ("nothing", b"", REFUSED),
        ("only newlines", b"\n" * 20_000, {400, 413, 422}),
        ("a bad line between good ones", a + b"\n{\n" + b, PARTLY),
        ("an invalid line", a + b'\n{"id": "h-bad"}', PARTLY),
        ("not UTF-8 in a line", a + b'\n{"id": "\xff"}\n' + b, PARTLY),
        ("a NUL line", a + b"\n\0\n" + b, PARTLY),
        ("a lone surrogate in a line", a + b"\n" + d.raw(d.text, rb'"\ud800"'), PARTLY),
        ("NaN", a + b"\nNaN\n", PARTLY),
        ("nesting in a line", a + b"\n" + b"[" * DEEP + b"\n", PARTLY),
        ("a list in a line", b"[" + a + b"]\n", PARTLY | INVALID),
        ("one item over many lines", json.dumps(json.loads(a), indent=1).encode(), PARTLY | BAD),
        ("carriage returns alone", a + b"\r" + b, PARTLY | BAD),
        ("a byte order mark", b"\xef\xbb\xbf" + a, PARTLY | BAD | KEPT),
        ("all lines bad", b"{\n" * 100, PARTLY | REFUSED),
        # An id of its own: with another's it would depend on what this daemon was asked before.
        ("one id, other content", d.item(id="h-two") + b"\n" + other, PARTLY),
        ("10,000 lines", many(10_000), KEPT),
        ("10,001 lines", many(10_001), {413, 422}),
        ("a line of 2 MB", lambda: a + b"\n" + d.item(x="x" * 2 * MEGABYTE), PARTLY | TOO_LARGE),
        ("a line of 20 MB without end", lambda: b"[" * 20 * MEGABYTE, {207, 400, 413}),
        ("66 MB of lines", lambda: (large + b"\n") * 1100, TOO_LARGE),
    ):
        yield d.post(f"lines: {name}", body, allowed, media=LINES)
    gzipped = b"Content-Encoding: gzip"
    packed = gzip.compress(a + b"\n" + b, mtime=0)
    yield d.post("lines: packed", packed, KEPT, gzipped, media=LINES)
    yield d.post("lines: packed and cut", packed[:-9], {207, 400}, gzipped, media=LINES)
    yield d.post("lines: a bomb", lambda: bomb(100 * MEGABYTE), {400, 413}, gzipped, media=LINES)
