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
"""Of eight words in a row, four begin at a multiple of five, four at one more, and so on."""
_ASCII_WORDS = bytes(
    code if re.match(r"\w", chr(code), re.ASCII) else ord(" ") for code in range(256)
)
"""Makes a space of every byte that is no letter, digit or underscore of ASCII."""

Words = tuple[str, ...]


class GramIndex:
    """The words of some texts, to look others up in; case and signs make no difference."""

    def __init__(self, texts: Iterable[str]) -> None:
        words = {_words(text) for text in texts}
        self._short = {some for some in words if len(some) < GRAM_WORDS}
        self._grams = {gram for some in words for gram in _in_a_row(some, GRAM_WORDS)}
        self._probes = {
            tuple(word.encode() for word in probe)
            for gram in self._grams
            for probe in _in_a_row(gram, PROBE_WORDS)
        }
        letters = set("".join("".join(some) for some in words))
        self._other_letters = {letter for letter in letters if not letter.isascii()}

    def finds(self, text: str) -> bool:
        """Whether the text shares eight words in a row with one of them, or all of its words."""
        text = text.lower()
        # A word in ASCII is the same piece here as below, and what ends it is no piece of it.
        pieces = text.encode(errors="replace").translate(_ASCII_WORDS).split()
        if (
            len(pieces) >= GRAM_WORDS
            and not self._may_be_in(pieces)
            and (text.isascii() or not any(letter in text for letter in self._other_letters))
        ):
            return False
        words = _words(text)
        if len(words) < GRAM_WORDS:
            return words in self._short
        return not self._grams.isdisjoint(_in_a_row(words, GRAM_WORDS))

    def _may_be_in(self, pieces: list[bytes]) -> bool:
        """Whether a probe is found among those that begin at 0, 5, 10 ..., at 1, 6 ..., and so on.

        Most texts share none at the first fifth of the places.
        """
        for at in range(EVERY):
            first, second = pieces[at::EVERY], pieces[at + 1 :: EVERY]
            third, fourth = pieces[at + 2 :: EVERY], pieces[at + 3 :: EVERY]
            if self._probes.isdisjoint(zip(first, second, third, fourth, strict=False)):
                return False
        return True


def _words(text: str) -> Words:
    return tuple(re.findall(r"\w+", text.lower()))


def _in_a_row(words: Words, count: int) -> Iterable[Words]:
    return zip(*(words[start:] for start in range(count)), strict=False)
