"""Whether a text holds another one of many, or eight words of it in a row.

The text of a gate must not be learned from. Nearly every text holds none, which is found out from
a few of its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

GRAM_WORDS = 8
"""Two texts that share this many words in a row are taken for the same item."""
PROBE_WORDS = 4
EVERY = GRAM_WORDS - PROBE_WORDS + 1
"""Wherever eight words in a row lie, four of them begin at a multiple of five."""
_ASCII_WORDS = bytes(
    code if re.match(r"\w", chr(code), re.ASCII) else ord(" ") for code in range(256)
)
"""Makes a space of every byte that is no letter, digit or underscore of ASCII."""

Words = tuple[str, ...]


class GramIndex:
    """The words of some texts, eight in a row, to look others up in; case and signs do not count."""

    def __init__(self, texts: Iterable[str]) -> None:
        words = {_words(text) for text in texts}
        self._short = {some for some in words if len(some) < GRAM_WORDS}
        self._grams = {gram for some in words for gram in _in_a_row(some, GRAM_WORDS)}
        self._probes = {
            tuple(word.encode() for word in probe)
            for gram in self._grams
            for probe in _in_a_row(gram, PROBE_WORDS)
        }
        self._ascii = all(word.isascii() for some in words for word in some)

    def finds(self, text: str) -> bool:
        """Whether the text shares eight words in a row with one of them, or all of its words."""
        # A word in ASCII is the same piece here as below, and what ends it is no piece of it.
        pieces = text.lower().encode(errors="replace").translate(_ASCII_WORDS).split()
        probes = zip(*(pieces[start::EVERY] for start in range(PROBE_WORDS)), strict=False)
        if (
            len(pieces) >= GRAM_WORDS
            and self._probes.isdisjoint(probes)
            and (self._ascii or text.isascii())
        ):
            return False
        words = _words(text)
        if len(words) < GRAM_WORDS:
            return words in self._short
        return not self._grams.isdisjoint(_in_a_row(words, GRAM_WORDS))


def _words(text: str) -> Words:
    return tuple(re.findall(r"\w+", text.lower()))


def _in_a_row(words: Words, count: int) -> Iterable[Words]:
    return zip(*(words[start:] for start in range(count)), strict=False)
