"""Texts as their words, and which of them may not be learned from.

Case, spaces and punctuation make no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

GRAM_WORDS = 8
"""Two texts that share this many words in a row are taken for the same item."""

Words = tuple[str, ...]


def words(text: str) -> Words:
    """The words of a text, in their order."""
    return tuple(re.findall(r"\w+", text.lower()))


class Forbidden:
    """Texts that no training may see: each as a whole, and any eight of its words in a row."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._whole = {words(text) for text in texts}
        self._grams = {gram for whole in self._whole for gram in _grams(whole)}

    def in_any(self, texts: Iterable[str]) -> bool:
        """Whether one of these is, or holds, one of them."""
        return any(
            said in self._whole or not self._grams.isdisjoint(_grams(said))
            for said in map(words, texts)
        )


def _grams(whole: Words) -> set[Words]:
    return {whole[i : i + GRAM_WORDS] for i in range(len(whole) - GRAM_WORDS + 1)}
