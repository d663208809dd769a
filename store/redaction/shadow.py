"""A text's shadow: the same text as a reader sees it, in plain characters, for matching.

Zero-width characters, full-width digits and the digits of other scripts hide an address from a
pattern but not from a person. Only what is cheap is undone: no look-alike letters, no entities.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

Span = tuple[int, int]
"""Start and end of a piece of text."""
Detector = Callable[[str], Iterator[Span]]
"""Where something stands in a shadow: in order, not overlapping."""


def every(pattern: str, group: int = 0) -> Detector:
    """The detector that takes every match of a pattern, or one group of it."""
    compiled = re.compile(pattern, re.ASCII | re.DOTALL)
    return lambda text: (match.span(group) for match in compiled.finditer(text))


_INVISIBLE = (
    *("\u00ad", "\u034f", "\u061c", "\u180e", "\u20e3", "\ufeff"),
    *map(chr, range(0x200B, 0x2010)),  # zero-width spaces, joiners, direction marks
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2060, 0x2070)),
    *map(chr, range(0xFE00, 0xFE10)),  # variation selectors: 0️⃣ is a digit in a frame
)
_ZEROS = "٠۰०০੦૦௦౦೦൦๐໐༠၀"
"""The zeros of the digits that people type; the nine others follow each of them."""
_WIDE = "＠﹫．＿－＋\u3000" + "".join(filter(str.isalnum, map(chr, range(0xFF10, 0xFF5B))))
_HIDING = (
    dict.fromkeys(_INVISIBLE, "")
    | {c: unicodedata.normalize("NFKC", c) for c in _WIDE}
    | {chr(ord(zero) + n): str(n) for zero in _ZEROS for n in range(10)}
)
_PLAIN = (
    _HIDING
    | dict.fromkeys("\u00a0\u2007\u2009\u202f", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | {"：": ":", "＝": "=", "（": "(", "）": ")"}
)
"""The last three lines are too common in honest text to be a reason for looking."""


def _any_of(characters: Iterable[str]) -> re.Pattern[str]:
    # As ranges: a class of hundreds of single characters is searched thirty times slower.
    ranges = []
    for _, run in groupby(enumerate(sorted(characters)), lambda pair: ord(pair[1]) - pair[0]):
        members = [c for _, c in run]
        ranges.append(f"{re.escape(members[0])}-{re.escape(members[-1])}")
    return re.compile(f"[{''.join(ranges)}]")


_FOLDED = _any_of(_PLAIN)
_HIDDEN = _any_of(_HIDING)


def fold(text: str) -> tuple[str, list[int] | None]:
    """The shadow, and for each of its characters the place in the text.

    None for the places when nothing was left out.
    """
    shadow = _plain(text)
    if len(shadow) == len(text):
        return shadow, None
    return shadow, [place for place, c in enumerate(text) if _PLAIN.get(c, c)]


def _plain(text: str) -> str:
    return text if text.isascii() else _FOLDED.sub(lambda match: _PLAIN[match[0]], text)


def goes_on(text: str, end: int) -> bool:
    """Whether a plain letter or digit follows; some scripts put no space after a number."""
    return text[end : end + 1].isascii() and text[end : end + 1].isalnum()


def without(text: str, spans: Iterable[Span]) -> str:
    """The text with these spans blanked by U+0000, which is neither a word nor a space."""
    pieces, at = [], 0
    for start, end in spans:
        pieces += [text[at:start], "\0" * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


# --- the sketch ---------------------------------------------------------------------------


class Sketch(NamedTuple):
    """A shadow in bytes, for quick tests of what it may hold: searches in bytes are the fastest."""

    raw: bytes
    squashed: bytes
    """Lower case, 0 for every digit, = for a colon, without spaces, dashes, quotes and the like."""


_SEPARATORS = bytes(range(0x80, 0xC0)) + b"\xc2\xe2 \t-./()_'\"`*"
_SQUASHED = bytes(
    ord("0") if c in b"0123456789" else ord("=") if c in b":\xef" else c
    for c in bytes(range(256)).lower()
)
"""0xEF opens the full-width forms, the colon among them."""


def squash(raw: bytes) -> bytes:
    """What a sketch calls squashed."""
    return raw.translate(_SQUASHED, _SEPARATORS)


_RARE_LEADS = {c.encode()[0] for c in _HIDING} - {0xC2, 0xE2}
_COMMON_LEADS = re.compile(rb"\xe2(?:\x80[\x8b-\x8f\xaa-\xae]|\x81[\xa0-\xaf]|\x83\xa3)")
"""0xC2 and 0xE2 open what hides, and the quotes and dashes of every other text."""


def sketch(text: str) -> Sketch:
    """The sketch of a text, made plain first if it holds a character that could hide something."""
    raw = text.encode("utf-8", "surrogatepass")
    if not text.isascii() and _may_hide(raw) and _HIDDEN.search(text):
        raw = _plain(text).encode("utf-8", "surrogatepass")
    return Sketch(raw, squash(raw))


def _may_hide(raw: bytes) -> bool:
    """Quicker than the search in the text: looks for the first bytes of what hides."""
    return (
        any(map(raw.__contains__, _RARE_LEADS))
        or _COMMON_LEADS.search(raw) is not None
        or (0xC2 in raw and b"\xc2\xad" in raw)
    )
