"""The roster of hostile requests: what is sent to the door, and what it may answer.

A request is the bytes on the wire, or a function that makes them where they are many. KEY stands
where the sender's key belongs. Ids follow from the content, so a roster can be sent again.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
        "messages": [{"role": "user", "content": "Hello"}],
        "response": "Good morning",
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
        "text": "Kind",
        "value": 1,
    },
)


def request(path: bytes, body: bytes = b"", *head: bytes, method: bytes = b"POST") -> bytes:
    """A request with a right Content-Length."""
    length = b"Content-Length: %d" % len(body)
    lines = (b"%s %s HTTP/1.1" % (method, path), b"Host: localhost", length, *head)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


# --- JSON -----------------------------------------------------------------------------------


def nesting(d: Door) -> Iterator[Hostile]:
    """Depth that a parser which calls itself does not survive."""
    for name, body in (
        ("arrays never closed", b"[" * DEEP),
        ("arrays", b"[" * DEEP + b"]" * DEEP),
        ("objects never closed", b'{"a":' * DEEP),
        ("objects", b'{"a":' * DEEP + b"1" + b"}" * DEEP),
        ("arrays and objects", b'[{"a":' * DEEP + b"1" + b"}]" * DEEP),
        ("arrays as a text", d.raw(d.text, b"[" * DEEP + b"]" * DEEP)),
        ("arrays in an unknown field", d.raw("x", b"[" * DEEP + b"]" * DEEP)),
        ("900 arrays", b"[" * 900 + b"]" * 900),
        ("2,000 objects", b'{"id":' * 2000 + b"1" + b"}" * 2000),
    ):
        yield d.post(f"nesting: {name}", body, REFUSED)


def texts(d: Door) -> Iterator[Hostile]:
    """What no string may hold, and strange text that it may."""
    for name, value, allowed in (
        ("lone high surrogate, escaped", rb'"\ud800"', BAD),
        ("lone low surrogate, escaped", rb'"\udc00"', BAD),
        ("surrogates in the wrong order", rb'"\udc00\ud800"', BAD),
        ("lone surrogate, raw", b'"\xed\xa0\x80"', BAD),
        ("surrogate pair, raw (CESU-8)", b'"\xed\xa0\xbd\xed\xb8\x80"', BAD),
        ("not UTF-8", b'"\xff"', BAD),
        ("a continuation without a start", b'"\x80"', BAD),
        ("a start without its continuation", b'"\xe2\x82"', BAD),
        ("overlong slash, two bytes", b'"\xc0\xaf"', BAD),
        ("overlong slash, three bytes", b'"\xe0\x80\xaf"', BAD),
        ("overlong slash, four bytes", b'"\xf0\x80\x80\xaf"', BAD),
        ("overlong NUL", b'"\xc0\x80"', BAD),
        ("above U+10FFFF", b'"\xf4\x90\x80\x80"', BAD),
        ("five-byte sequence", b'"\xf8\x88\x80\x80\x80"', BAD),
        ("NUL, raw", b'"a\0b"', BAD),
        ("NUL, escaped", rb'"a\u0000b"', INVALID),
        ("only NUL, escaped", rb'"\u0000"', INVALID),
        ("C0 control, raw", b'"a\x01b"', BAD),
        ("newline, raw", b'"a\nb"', BAD),
        ("half an escape", rb'"\u12"', BAD),
        ("an unknown escape", rb'"\x41"', BAD),
        ("a quote without its pair", b'"a"b"', BAD),
        ("single quotes", b"'a'", BAD),
        ("empty", b'""', INVALID),
        ("a number", b"7", INVALID),
        ("a list", b'["a"]', INVALID),
        ("65,537 characters", b'"' + b"x" * 65_537 + b'"', INVALID),
        ("65,536 characters", b'"' + b"x" * 65_536 + b'"', KEPT),
        ("65,536 characters of four bytes", b'"' + "😀".encode() * 65_536 + b'"', KEPT),
        ("C0 controls, escaped", rb'"\u0001\u001b[2J\u007f"', KEPT),
        ("C1 controls", '"a\x80\x85\x9fb"'.encode(), KEPT),
        ("bidirectional overrides", '"a\u202egnp.exe\u2066\u2069"'.encode(), KEPT),
        ("zero width", '"a\u200b\u200d\ufeff\u2060b"'.encode(), KEPT),
        ("line separators", '"a\u2028b\u2029c"'.encode(), KEPT),
        ("non-characters", '"\ufffe\uffff\U0010ffff"'.encode(), KEPT),
        ("10,000 combining marks", ('"a' + "\u0301" * 10_000 + '"').encode(), KEPT),
        ("tag characters", '"\U000e0041\U000e007f"'.encode(), KEPT),
    ):
        yield d.post(f"text: {name}", d.raw(d.text, value), allowed)


def numbers(d: Door) -> Iterator[Hostile]:
    """Numbers that are none, or too large for any of ours."""
    for name, value, allowed in (
        ("NaN", b"NaN", BAD),
        ("Infinity", b"Infinity", BAD),
        ("minus Infinity", b"-Infinity", BAD),
        ("1e400", b"1e400", REFUSED),
        ("-1e400", b"-1e400", REFUSED),
        ("10^400 in digits", b"1" + b"0" * 400, REFUSED | KEPT),
        ("100,000 digits", b"7" * 100_000, REFUSED | KEPT),
        ("100,000 decimals", b"0." + b"3" * 100_000, REFUSED | KEPT),
        ("an exponent of 100,000 digits", b"1e" + b"9" * 100_000, REFUSED),
        ("2^63", b"9223372036854775808", REFUSED | KEPT),
        ("2^64", b"18446744073709551616", REFUSED | KEPT),
        ("-2^63 - 1", b"-9223372036854775809", REFUSED | KEPT),
        ("1e-400", b"1e-400", REFUSED | KEPT),
        ("minus zero", b"-0.0", REFUSED | KEPT),
        ("a leading zero", b"01", BAD),
        ("a plus", b"+1", BAD),
        ("hexadecimal", b"0x10", BAD),
        ("a bare point", b"1.", BAD),
        ("a bare minus", b"-", BAD),
        ("underscores", b"1_0", BAD),
        ("full-width digits", "１".encode(), BAD),
    ):
        field = "metadata" if d is EXPERIENCES else "value"
        body = d.raw(field, b'{"n": ' + value + b"}" if d is EXPERIENCES else value)
        yield d.post(f"number: {name}", body, allowed)


def shapes(d: Door) -> Iterator[Hostile]:
    """JSON that is no item, JSON that is nearly one, and what is no JSON."""
    good, noise = d.item(), random.Random(7).randbytes(5000)
    for name, body, allowed in (
        ("null", b"null", INVALID),
        ("a number", b"3", INVALID),
        ("a string", b'"text"', INVALID),
        ("true", b"true", INVALID),
        ("an empty object", b"{}", INVALID),
        ("an empty list", b"[]", INVALID),
        ("a list in a list", b"[[" + good + b"]]", INVALID | PARTLY),
        ("a list of null", b"[null]", INVALID | PARTLY),
        ("a good and a bad item", b"[" + good + b', {"id": "h-bad"}]', PARTLY),
        ("501 items", b"[" + b",".join([good] * 501) + b"]", {413, 422}),
        ("one id 500 times", b"[" + b",".join([good] * 500) + b"]", KEPT),
        ("an unknown field", d.item(nonsense=1), INVALID),
        ("a field named __proto__", d.item(__proto__={"admin": True}), INVALID),
        ("a key twice", good[:-1] + b', "id": "h-twice"}', KEPT | REFUSED),
        ("a key 50,000 times", b"{" + b'"id": "a", ' * 50_000 + good[1:], KEPT | REFUSED),
        ("10,000 unknown fields", d.item(**{f"k{i}": i for i in range(10_000)}), INVALID),
        ("a key of 900 KB", d.item(**{"k" * 900_000: 1}), INVALID),
        ("a key with a NUL", d.raw("x", rb'{"\u0000": 1}'), INVALID),
        ("empty", b"", BAD),
        ("white space", b" \r\n\t" * 1000, BAD),
        ("a byte order mark", b"\xef\xbb\xbf" + good, BAD | KEPT),
        ("a NUL before it", b"\0" + good, BAD),
        ("a NUL after it", good + b"\0", BAD),
        ("cut in the middle", good[: len(good) // 2], BAD),
        ("something after it", good + b"x", BAD),
        ("two in a row", good + good, BAD),
        ("a trailing comma", good[:-1] + b",}", BAD),
        ("a comment", b"/* */" + good, BAD),
        ("a form feed", b"\f" + good, BAD),
        ("Python", repr(json.loads(good)).encode(), BAD),
        ("a form", b"id=h-1&text=x", BAD),
        ("XML", b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', BAD),
        ("a pickle", b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.", BAD),
        ("noise", noise, BAD),
        ("UTF-16", good.decode().encode("utf-16"), BAD),
        ("UTF-32", good.decode().encode("utf-32"), BAD),
    ):
        yield d.post(f"shape: {name}", body, allowed)


def fields(d: Door) -> Iterator[Hostile]:
    """Ids and moments."""
    for name, value in (
        ("empty", ""),
        ("a way up", "../../etc/passwd"),
        ("a slash", "a/b"),
        ("a newline at its end", "a\n"),
        ("a carriage return", "a\r\nSet-Cookie: b"),
        ("a NUL", "a\0"),
        ("a space", "a b"),
        ("a percent sign", "%2e%2e"),
        ("a leading dot", ".a"),
        ("a full-width letter", "\uff21"),
        ("an invisible character", "a\u200b"),
        ("a template", "{{7*7}}${7*7}"),
        ("SQL", "a'; DROP TABLE experiences; --"),
        ("129 characters", "a" * 129),
        ("100 KB", "a" * 100_000),
        ("a number", 7),
        ("null", None),
        ("a list", ["a"]),
        ("an object", {"a": 1}),
    ):
        yield d.post(f"id: {name}", d.item(id=value), INVALID)
    yield d.post("id: 128 characters", d.item(id="a" * 128), KEPT)
    for name, value, allowed in (
        ("no zone", "2026-01-02T03:04:05", INVALID),
        ("the year 0", "0000-01-01T00:00:00Z", INVALID),
        ("the year 10000", "10000-01-01T00:00:00Z", INVALID),
        ("a year before 0", "-001-01-01T00:00:00Z", INVALID),
        ("before the calendar in UTC", "0001-01-01T00:00:00+14:00", INVALID),
        ("after the calendar in UTC", "9999-12-31T23:59:59-14:00", INVALID),
        ("the 30th of February", "2026-02-30T00:00:00Z", INVALID),
        ("the 13th month", "2026-13-01T00:00:00Z", INVALID),
        ("24 o'clock", "2026-01-02T24:00:00Z", INVALID),
        ("a leap second", "2016-12-31T23:59:60Z", INVALID | KEPT),
        ("a leap second at noon", "2026-01-02T12:00:60Z", INVALID),
        ("a zone of a day", "2026-01-02T03:04:05+24:00", INVALID),
        ("a zone of 99 hours", "2026-01-02T03:04:05+99:99", INVALID),
        ("a zone with seconds", "2026-01-02T03:04:05+01:00:30", INVALID),
        ("a named zone", "2026-01-02T03:04:05[Europe/Berlin]", INVALID),
        ("a date", "2026-01-02", INVALID),
        ("a number", 1767323045, INVALID),
        ("words", "yesterday", INVALID),
        ("Arabic digits", "٢٠٢٦-01-02T03:04:05Z", INVALID),
        ("a NUL", "2026-01-02T03:04:05Z\0", INVALID),
        ("100,000 decimals", f"2026-01-02T03:04:05.{'3' * 100_000}Z", INVALID | KEPT),
        ("nine decimals", "2026-01-02T03:04:05.123456789Z", KEPT),
        ("an unknown zone", "2026-01-02T03:04:05-00:00", KEPT),
        ("the farthest zone", "2026-01-02T03:04:05+14:00", KEPT),
        ("small letters", "2026-01-02t03:04:05z", KEPT | INVALID),
        ("a space in the middle", "2026-01-02 03:04:05Z", KEPT | INVALID),
    ):
        yield d.post(f"moment: {name}", d.item(**{d.moment: value}), allowed)


def conversations() -> Iterator[Hostile]:
    """What only an experience has: messages, context, consent, metadata."""
    message = {"role": "user", "content": "Hello"}
    d = EXPERIENCES
    for name, changes, allowed in (
        ("none", {"messages": []}, INVALID),
        ("300 of them", {"messages": [message] * 300}, INVALID),
        ("200 of them", {"messages": [message] * 200}, KEPT),
        ("an object", {"messages": message}, INVALID),
        ("one over 64 KB", {"messages": [message | {"content": "x" * 65_537}]}, INVALID),
        ("one of a tool", {"messages": [message | {"role": "tool"}]}, INVALID),
        ("one with a NUL", {"messages": [message | {"content": "\0"}]}, INVALID),
        ("one with parts", {"messages": [message | {"content": [{"type": "text"}]}]}, INVALID),
        ("consent in words", {"consent": {"training": "yes"}}, INVALID),
        ("consent as a number", {"consent": {"training": 1}}, INVALID),
        ("10,000 facts", {"context": {"facts": ["x"] * 10_000}}, KEPT | INVALID),
        ("metadata in metadata", {"metadata": {"a": {"b": 1}}}, INVALID),
        ("metadata as a list", {"metadata": [1]}, INVALID),
        ("metadata without a name", {"metadata": {"": 1}}, INVALID),
        ("metadata with a NUL", {"metadata": {"a\0": "b"}}, INVALID),
        ("metadata holding a NUL", {"metadata": {"a": "b\0"}}, INVALID),
        ("10,000 metadata", {"metadata": {f"k{i}": i for i in range(10_000)}}, KEPT | INVALID),
        ("a name of 900 KB", {"metadata": {"k" * 900_000: 1}}, INVALID),
        ("a metadata of 900 KB", {"metadata": {"k": "x" * 900_000}}, KEPT | INVALID),
        ("a source with a newline", {"source": "a\nb"}, INVALID),
        ("a source of 100 KB", {"source": "a" * 100_000}, INVALID),
        ("curated without the right", {"source": "curated"}, {403}),
    ):
        yield d.post(f"conversation: {name}", d.item(**changes), allowed)
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    yield d.post("conversation: deep metadata", d.raw("metadata", deep), REFUSED)
    other = json.dumps([json.loads(d.item()) | {"response": "Other"}]).encode()
    yield d.post("conversation: a known id, other content", other[1:-1], {409})
    yield d.post("conversation: the same in a list", other, PARTLY)


# --- bodies ---------------------------------------------------------------------------------


def sizes(d: Door) -> Iterator[Hostile]:
    """Bodies at the limit and far over it."""
    good = d.item()
    fill = MEGABYTE - len(good)
    chunked = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" % d.path
    chunked += b"Authorization: Bearer " + KEY + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield d.post("size: 1 MB", lambda: good + b" " * fill, KEPT)
    yield d.post("size: 1 MB and a byte", lambda: good + b" " * (fill + 1), TOO_LARGE)
    yield d.post("size: 1 MB and a byte as text", lambda: good + b" " * (fill + 1), TOO_LARGE)
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
    large = d.item(x="x" * 60_000)

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
        ("one id, other content", a + b"\n" + d.item(id="h-line", **{d.text: "Other"}), PARTLY),
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


# --- the head -------------------------------------------------------------------------------


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
    for method in (b"GET", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"PROPFIND"):
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
        ("chunked and gzip", b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk, {400, 415, 501}),
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
        ("HTTP/0.9", b"GET /healthz\r\n\r\n", MALFORMED),
        ("HTTP/9.9", b"GET /healthz HTTP/9.9\r\n\r\n", {400, 505, CLOSED}),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", MALFORMED),
        ("noise", random.Random(7).randbytes(100_000), MALFORMED),
        ("NULs", bytes(100_000), MALFORMED),
    ):
        yield Hostile(f"no request: {name}", wire, allowed, unfinished=True)
    bare = (start + b"Content-Length: %d\r\n\r\n" % size).replace(b"\r\n", b"\n") + good
    yield Hostile("framing: bare newlines", bare, MALFORMED | KEPT)
    old = start.replace(b"HTTP/1.1\r\nHost: a", b"HTTP/1.0")
    yield Hostile("framing: HTTP/1.0", old + b"Content-Length: %d\r\n\r\n%s" % (size, good), KEPT)
    hostless = start.replace(b"Host: a\r\n", b"") + b"Content-Length: %d\r\n\r\n%s" % (size, good)
    yield Hostile("framing: no host", hostless, KEPT | BAD)


def _roster() -> list[Hostile]:
    bodies = (nesting, texts, numbers, shapes, fields, sizes, media, encodings, lines, keys)
    of_both = [case for door in (EXPERIENCES, FEEDBACK) for kind in bodies for case in kind(door)]
    return [*of_both, *conversations(), *targets(), *heads(), *framing()]


ROSTER = _roster()
