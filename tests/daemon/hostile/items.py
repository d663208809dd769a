"""Hostile JSON: nesting, texts, numbers, shapes, ids and moments, conversations."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from .request import BAD, DEEP, EXPERIENCES, INVALID, KEPT, PARTLY, REFUSED, Door, Hostile


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
        ("2,000 objects", b'{"id":' * 2000 + b"1" + b"}" * 2000),
    ):
        yield d.post(f"nesting: {name}", body, REFUSED)
    yield d.post("nesting: 900 arrays", b"[" * 900 + b"]" * 900, PARTLY)


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
        ("C0 controls, escaped", rb'"\u0001\u001b[2J\u007f"', INVALID),
        ("C1 controls", '"a\x80\x85\x9fb"'.encode(), INVALID),
        ("bidirectional overrides", '"a\u202egnp.exe\u2066\u2069"'.encode(), KEPT),
        ("zero width", '"a\u200b\u200d\ufeff\u2060b"'.encode(), KEPT),
        ("line separators", '"a\u2028b\u2029c"'.encode(), KEPT),
        ("non-characters", '"\ufffe\uffff\U0010ffff"'.encode(), KEPT),
        ("10,000 combining marks", ('"a' + "\u0301" * 10_000 + '"').encode(), KEPT | INVALID),
        ("longer in NFC than it may be", ('"' + "\ufb2c" * 65_536 + '"').encode(), INVALID),
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
        ("10^400 in digits", b"1" + b"0" * 400, REFUSED),
        ("100,000 digits", b"7" * 100_000, REFUSED),
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
        ("a list after white space", b" " * 100 + b"[" + good + b"]", KEPT),
        ("not UTF-8 in a list", b"[" + good + b', {"id": "\xff"}]', PARTLY | BAD),
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
        ("metadata longer in NFC", {"metadata": {"\ufb2c" * 128: 1}}, INVALID),
        ("a name of 900 KB", {"metadata": {"k" * 900_000: 1}}, INVALID),
        ("a metadata of 900 KB", {"metadata": {"k": "x" * 900_000}}, KEPT | INVALID),
        ("a source with a newline", {"source": "a\nb"}, INVALID),
        ("a source of 100 KB", {"source": "a" * 100_000}, INVALID),
        ("curated without the right", {"source": "exemplar"}, {403}),
    ):
        yield d.post(f"conversation: {name}", d.item(**changes), allowed)
    # To normalise a text is to sort its marks, in time that grows with the square of their number.
    marks = "\u0301" * 32_000 + "\u0323" * 32_000
    many = [message | {"content": marks}] * 7
    text = json.dumps(many, ensure_ascii=False).encode()
    yield d.post("conversation: many marks to sort", d.raw("messages", text), KEPT | INVALID)
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    yield d.post("conversation: deep metadata", d.raw("metadata", deep), REFUSED)
    other = json.dumps([json.loads(d.item()) | {"response": "Other"}]).encode()
    yield d.post("conversation: a known id, other content", other[1:-1], {409})
    yield d.post("conversation: the same in a list", other, PARTLY)
