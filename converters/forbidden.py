"""Which texts may not be learned from: those that are, or hold, what a gate asks.

Case, spaces and punctuation make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from converters.grams import Numbered, Numbers, Places, first_bits, numbered
from converters.rows import Mask

GRAM_WORDS = 8
"""Two texts that share this many words in a row are taken for the same item."""
SIEVE_BITS = 20
"""Numbers are told apart by their first bits first: nearly all that are asked of are not known."""


class Forbidden:
    """Texts that no training may see: each as a whole, and any eight of its words in a row."""

    def __init__(self, texts: Iterable[str]) -> None:
        found = numbered(list(texts))
        grams, whole = found.rows(GRAM_WORDS)
        self._grams = _Known(grams[whole])
        self._whole = _Known(found.whole)

    def among(self, said: Numbered) -> Mask:
        """Which of the texts are, or hold, one of them."""
        holds = np.zeros(len(said.first) - 1, bool)
        holds[self._whole.places(said.whole)] = True
        grams, whole = said.rows(GRAM_WORDS)
        found = self._grams.places(grams)
        holds[said.text[found[whole[found]]]] = True
        return holds

    def in_any(self, texts: Iterable[str]) -> bool:
        """Whether one of these is, or holds, one of them."""
        return bool(self.among(numbered(list(texts))).any())


class _Known:
    """Numbers, to be found among others."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = np.unique(numbers)
        self._sieve = np.zeros(2**SIEVE_BITS, bool)
        self._sieve[first_bits(numbers, SIEVE_BITS)] = True

    def places(self, numbers: Numbers) -> Places:
        """Where among these they stand."""
        maybe = np.flatnonzero(self._sieve.take(first_bits(numbers, SIEVE_BITS)))
        found = np.searchsorted(self._numbers, numbers[maybe])
        same = self._numbers[found.clip(max=len(self._numbers) - 1)] == numbers[maybe]
        return np.asarray(maybe[same])
