"""A text as its words, for comparing a few: case, spaces and punctuation make no difference.

Many texts are compared as numbers, see `grams`.
"""

from __future__ import annotations

import re

Words = tuple[str, ...]


def words(text: str) -> Words:
    """The words of a text, in their order."""
    return tuple(re.findall(r"\w+", text.lower()))
