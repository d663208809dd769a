"""Hostile heads: keys, addresses, methods, header lines, and lengths that disagree."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator

from .request import (
    BAD,
    CLOSED,
    EXPERIENCES,
    KEPT,
    KEY,
    LONG_HEADERS,
    MALFORMED,
    MEGABYTE,
    REFUSED,
    UNKNOWN_KEY,
    Door,
    Hostile,
    request,
)


def keys(d: Door) -> Iterator[Hostile]:
    """Who one claims to be."""
    good, kind = d.item(), b"Content-Type: application/json"
    forged = b"bhv_0123456789ab_" + b"0" * 32
    forged += b"%08x" % zlib.crc32(forged)
    for name, value in (
        ("nothing", b""),
        ("no key", b"Bearer"),
        ("another scheme", b"Basic YTpi"),
        ("no scheme", KEY),
        ("said twice", b"Bearer Bearer " + KEY),
        ("two keys", b"Bearer " + KEY + b", " + KEY),
        ("a letter more", b"Bearer " + KEY + b"0"),
        ("a wrong checksum", b"Bearer bhv_0123456789ab_" + b"0" * 40),
        ("a right checksum", b"Bearer " + forged),
        ("no public part", b"Bearer bhv__" + b"0" * 40),
        ("SQL", b"Bearer bhv_' OR 1=1 --_" + b"0" * 40),
        ("not ASCII", b"Bearer \xff\xfe\xc3\xa9"),
        ("16 KB", b"Bearer bhv_" + b"0" * 16_000),
        ("a publishable key that is none", b"Bearer bhvp_0123456789ab_" + b"0" * 40),
        ("a token that is none", b"Bearer bhvt_0123456789ab_" + b"0" * 40),
        ("many underscores", b"Bearer " + b"_" * 5000),
    ):
        wire = request(d.path, good, kind, b"Authorization: " + value)
        yield Hostile(f"key: {name} {d.path.decode()}", wire, UNKNOWN_KEY)
    for name, target, allowed in (
        ("in the address", d.path + b"?key=" + KEY, UNKNOWN_KEY),
        ("in the address, with a fragment", d.path + b"?key=" + KEY + b"#x", UNKNOWN_KEY | BAD),
        ("a publishable one that is none", d.path + b"?key=bhvp_a_b", UNKNOWN_KEY),
        ("1,000 times", d.path + b"?" + b"key=a&" * 1000, UNKNOWN_KEY),
        ("not UTF-8", d.path + b"?key=%ff%fe%00", UNKNOWN_KEY),
        ("empty", d.path + b"?key=", UNKNOWN_KEY),
    ):
        wire = request(target, good, kind)
        yield Hostile(f"key in the address: {name} {d.path.decode()}", wire, allowed)
    two = request(d.path, good, kind, b"Authorization: Basic a", b"Authorization: Bearer " + KEY)
    yield Hostile(f"key: two headers {d.path.decode()}", two, KEPT | UNKNOWN_KEY | BAD)
    for name, value, allowed in (
        ("with a slash", b"a/b", REFUSED),
        ("of 10 KB", b"a" * 10_000, REFUSED),
        ("not ASCII", b"\xff", REFUSED),
        ("empty", b"", REFUSED | KEPT),
        ("other than the id", b"other", REFUSED | KEPT | {409}),
    ):
        head = b"Idempotency-Key: " + value
        given = {k: v for k, v in json.loads(good).items() if k != "id" or "other" in name}
        yield d.post(f"Idempotency-Key: {name}", json.dumps(given).encode(), allowed, head)


def targets() -> Iterator[Hostile]:
    """Ways to write the address, and methods."""
    d, good = EXPERIENCES, EXPERIENCES.item()
    head = (b"Content-Type: application/json", b"Authorization: Bearer " + KEY)
    path, missing = d.path, {404}
    for name, target, allowed in (
        ("a slash at the end", path + b"/", missing),
        ("two slashes", b"/" + path, missing),
        ("two slashes inside", b"/v1//experiences", missing),
        ("a packed slash", b"/v1%2fexperiences", missing | KEPT),
        ("up and down", b"/v1/../v1/experiences", missing),
        ("up, packed", b"/v1/%2e%2e/v1/experiences", missing),
        ("up above the root", b"/../../../etc/passwd", missing),
        ("up, overlong", b"/%c0%ae%c0%ae/etc/passwd", missing),
        ("a NUL", path + b"%00", missing),
        ("a newline", path + b"%0d%0aSet-Cookie:%20a=b", missing),
        ("half an escape", path + b"%", missing | BAD),
        ("no escape", path + b"%zz", missing | BAD),
        ("not ASCII", path + b"\xff", missing | MALFORMED),
        ("a backslash", b"/v1\\experiences", missing | BAD),
        ("another case", b"/V1/Experiences", missing),
        ("a parameter", path + b";a=b", missing),
        ("absolute", b"http://elsewhere.example" + path, KEPT | missing),
        ("absolute, another scheme", b"file:///etc/passwd", missing | BAD),
        ("a star", b"*", missing | MALFORMED),
        ("nothing", b"", MALFORMED),
        ("no slash", b"v1/experiences", MALFORMED),
        ("a long query", path + b"?" + b"a" * 60_000, KEPT | LONG_HEADERS),
        ("10,000 parameters", path + b"?" + b"a=1&" * 10_000, KEPT | LONG_HEADERS),
        ("a query of escapes", path + b"?%ff%00%zz%&&&===", KEPT | BAD),
        ("a path of 60 KB", b"/" + b"a" * 60_000, missing | LONG_HEADERS),
        ("a path of 5 MB", b"/" + b"a" * 5 * MEGABYTE, LONG_HEADERS | {CLOSED}),
        ("10,000 steps", b"/.." * 10_000, missing | LONG_HEADERS),
    ):
        yield Hostile(f"target: {name}", request(target, good, *head), allowed)
    yield Hostile("method: GET", request(path, good, *head, method=b"GET"), {403})
    yield Hostile("method: OPTIONS", request(path, good, *head, method=b"OPTIONS"), {204})
    for method in (b"HEAD", b"PUT", b"PATCH", b"DELETE", b"TRACE", b"PROPFIND"):
        wire = request(path, good, *head, method=method)
        yield Hostile(f"method: {method.decode()}", wire, {405})
    for name, method in (
        ("unknown", b"FOO"),
        ("small letters", b"post"),
        ("of 1,000 letters", b"P" * 1000),
        ("with a NUL", b"PO\0ST"),
        ("CONNECT", b"CONNECT"),
    ):
        yield Hostile(f"method: {name}", request(path, good, *head, method=method), {400, 404, 405})


def heads() -> Iterator[Hostile]:
    """Lines of the head that are too many, too long or none."""
    d, good = EXPERIENCES, EXPERIENCES.item()
    for name, lines_, allowed in (
        ("1,000 of them", [b"X-%d: a" % i for i in range(1000)], KEPT | LONG_HEADERS),
        ("50,000 of them", [b"X-%d: a" % i for i in range(50_000)], LONG_HEADERS | {CLOSED}),
        ("one of 60 KB", [b"X: " + b"a" * 60_000], KEPT | LONG_HEADERS),
        ("one of 5 MB", [b"X: " + b"a" * 5 * MEGABYTE], LONG_HEADERS | {CLOSED}),
        ("a name of 60 KB", [b"X" * 60_000 + b": a"], KEPT | LONG_HEADERS),
        ("a name of 5 MB", [b"X" * 5 * MEGABYTE + b": a"], LONG_HEADERS | {CLOSED}),
        ("no colon", [b"Nonsense"], MALFORMED),
        ("no name", [b": a"], MALFORMED),
        ("a space before the colon", [b"Transfer-Encoding : chunked"], MALFORMED),
        ("a folded one", [b"X: a", b" Content-Length: 5"], MALFORMED | KEPT),
        ("a NUL in a value", [b"X: a\0b"], MALFORMED),
        ("a NUL in a name", [b"X\0: a"], MALFORMED),
        ("a bare carriage return", [b"X: a\rContent-Length: 5"], MALFORMED),
        ("not ASCII in a name", [b"\xc3\xa9: a"], MALFORMED),
        ("not ASCII in a value", [b"X: \xff\xfe"], KEPT),
        ("two hosts", [b"Host: elsewhere.example"], KEPT | BAD),
        ("a cookie of 50 KB", [b"Cookie: " + b"a=b;" * 12_500], KEPT | LONG_HEADERS),
        ("an unknown expectation", [b"Expect: a-miracle"], KEPT | {417}),
        ("an upgrade", [b"Connection: Upgrade", b"Upgrade: h2c"], KEPT | BAD),
        ("a web socket", [b"Connection: Upgrade", b"Upgrade: websocket"], KEPT | BAD),
        ("a far client", [b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: gopher"], KEPT),
        ("an address of many", [b"X-Forwarded-For: " + b"1.1.1.1," * 5000], KEPT | LONG_HEADERS),
        ("another method", [b"X-HTTP-Method-Override: DELETE"], KEPT),
        ("a broken range", [b"Range: bytes=9-1,-", b"If-Match: *"], KEPT),
    ):
        yield d.post(f"head: {name}", good, allowed, *lines_)


def framing() -> Iterator[Hostile]:
    """Requests whose length is a matter of opinion, and bytes that are no request."""
    good, start = EXPERIENCES.item(), b"POST /v1/experiences HTTP/1.1\r\nHost: a\r\n"
    start += b"Content-Type: application/json\r\nAuthorization: Bearer " + KEY + b"\r\n"
    size, te = len(good), b"Transfer-Encoding: chunked\r\n"
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (size, good)
    after = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    for name, rest, allowed in (
        ("length too small", b"Content-Length: 5\r\n\r\n" + good, BAD),
        ("length zero", b"Content-Length: 0\r\n\r\n" + good, BAD),
        ("length negative", b"Content-Length: -1\r\n\r\n" + good, MALFORMED),
        ("length with a plus", b"Content-Length: +%d\r\n\r\n%s" % (size, good), MALFORMED),
        ("length in hexadecimal", b"Content-Length: 0x%x\r\n\r\n%s" % (size, good), MALFORMED),
        ("length empty", b"Content-Length: \r\n\r\n" + good, MALFORMED),
        ("length in words", b"Content-Length: many\r\n\r\n" + good, MALFORMED),
        ("length above 2^64", b"Content-Length: %d\r\n\r\n%s" % (2**64 + size, good), MALFORMED),
        ("a list of lengths", b"Content-Length: %d, 5\r\n\r\n%s" % (size, good), MALFORMED),
        (
            "two lengths",
            b"Content-Length: %d\r\nContent-Length: 5\r\n\r\n%s" % (size, good),
            MALFORMED,
        ),
        (
            "one length twice",
            b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n%s" % (size, size, good),
            MALFORMED | KEPT,
        ),
        ("length, then chunks", b"Content-Length: %d\r\n%s\r\n%s" % (size, te, chunk), MALFORMED),
        ("chunks, then length", te + b"Content-Length: %d\r\n\r\n%s" % (size, chunk), MALFORMED),
        ("a request behind", te + b"Content-Length: 5\r\n\r\n" + after, MALFORMED),
        ("chunked in vain", b"Transfer-Encoding: xchunked\r\n\r\n" + chunk, MALFORMED),
        ("chunked, not last", b"Transfer-Encoding: chunked, identity\r\n\r\n" + chunk, MALFORMED),
        ("chunked twice", te + te + b"\r\n" + chunk, MALFORMED | KEPT),
        ("chunked and gzip", b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk, MALFORMED | KEPT),
        ("chunk size in words", te + b"\r\nzz\r\n" + good, MALFORMED),
        ("chunk size negative", te + b"\r\n-5\r\n" + good, MALFORMED),
        ("chunk size with 0x", te + b"\r\n0x%s" % chunk, MALFORMED),
        ("chunk size above 2^64", te + b"\r\n" + b"f" * 17 + b"\r\n" + good, MALFORMED),
        ("chunk size empty", te + b"\r\n\r\n" + good, MALFORMED),
        ("chunk too short", te + b"\r\n5\r\n%s\r\n0\r\n\r\n" % good, MALFORMED),
        ("chunk extension", te + b"\r\n%x;a=b\r\n%s\r\n0\r\n\r\n" % (size, good), KEPT | BAD),
        ("a trailer", te + b"\r\n%x\r\n%s\r\n0\r\nX: a\r\n\r\n" % (size, good), KEPT | BAD),
        ("no length", b"\r\n", BAD),
    ):
        yield Hostile(f"framing: {name}", start + rest, allowed)
    for name, rest in (
        ("length too large", b"Content-Length: %d\r\n\r\n%s" % (size + 5, good)),
        ("no last chunk", te + b"\r\n%x\r\n%s\r\n" % (size, good)),
        ("a chunk cut off", te + b"\r\n%x\r\n%s" % (size, good[:5])),
        ("no body", b"Content-Length: %d\r\n\r\n" % size),
        ("half a head", b"Content-Le"),
    ):
        yield Hostile(f"framing: {name}", start + rest, MALFORMED, unfinished=True)
    for name, wire, allowed in (
        ("nothing", b"", MALFORMED),
        ("newlines", b"\r\n" * 1000, MALFORMED),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), MALFORMED),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), {400, 405, 505, CLOSED}),
        ("HTTP/9.9", b"GET /healthz HTTP/9.9\r\n\r\n", {400, 505, CLOSED}),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", MALFORMED),
        ("noise", random.Random(7).randbytes(100_000), MALFORMED),
        ("NULs", bytes(100_000), MALFORMED),
    ):
        yield Hostile(f"no request: {name}", wire, allowed, unfinished=True)
    # Its client waits for the answer: an end that comes with the request would hide it.
    yield Hostile("no request: HTTP/0.9", b"GET /healthz\r\n\r\n", {400})
    bare = (start + b"Content-Length: %d\r\n\r\n" % size).replace(b"\r\n", b"\n") + good
    yield Hostile("framing: bare newlines", bare, MALFORMED | KEPT)
    old = start.replace(b"HTTP/1.1\r\nHost: a", b"HTTP/1.0")
    yield Hostile("framing: HTTP/1.0", old + b"Content-Length: %d\r\n\r\n%s" % (size, good), KEPT)
    hostless = start.replace(b"Host: a\r\n", b"") + b"Content-Length: %d\r\n\r\n%s" % (size, good)
    yield Hostile("framing: no host", hostless, KEPT | BAD)
