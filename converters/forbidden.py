"""Which texts may not be learned from: those that are, or hold, what a gate asks.

Case, spaces and punctuation make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from converters.grams import Numbered, Numbers, numbered
from converters.rows import Mask

GRAM_WORDS = 8
"""Two texts that share this many words in a row are taken for the same item."""


class Forbidden:
    """Texts that no training may see: each as a whole, and any eight of its words in a row."""

    def __init__(self, texts: Iterable[str]) -> None:
        found = numbered(list(texts))
        self._grams = np.unique(found.rows(GRAM_WORDS)[0])
        self._whole = np.unique(found.whole())

    def among(self, said: Numbered) -> Mask:
        """Which of the texts are, or hold, one of them."""
        holds = _among(said.whole(), self._whole)
        grams, text = said.rows(GRAM_WORDS)
        holds[text[_among(grams, self._grams)]] = True
        return holds

    def in_any(self, texts: Iterable[str]) -> bool:
        """Whether one of these is, or holds, one of them."""
        return bool(self.among(numbered(list(texts))).any())


def _among(numbers: Numbers, known: Numbers) -> Mask:
    if not len(known):
        return np.zeros(len(numbers), bool)
    places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    return np.asarray(known[places] == numbers)
