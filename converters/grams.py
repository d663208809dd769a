"""Words in a row, of many texts at once, as 64-bit numbers: equal numbers are equal words.

A word is a run of letters, digits and underscores, whatever its case. Two different ones have
the same number once in 2**64: a polynomial of the word's bytes, mixed (SplitMix64's finalizer).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
Places = NDArray[np.int64]

NO_WORD = re.compile(r"[^\w]")
BASE = 0x9E3779B97F4A7C15
"""Odd, so that it can be divided by: a word's number does not depend on where it stands."""
BEFORE = 0xD6E8FEB86659FD93
"""By this the words before count more: their order matters."""
IS_WORD = np.array([chr(i).isalnum() or chr(i) == "_" or i >= 128 for i in range(256)])
"""By byte of UTF-8; of other letters than ASCII's only words are left when it is asked."""
CODES = np.arange(1, 257, dtype=np.uint64)
"""By byte, too: none counts nothing."""


class Numbered(NamedTuple):
    """The words of some texts, one after another."""

    numbers: Numbers
    text: Places
    """Which text each word belongs to."""
    first: Places
    """Of each text its first word, and then how many words there are."""

    def rows(self, length: int) -> tuple[Numbers, Places]:
        """Every so many words in a row that lie in one text: their number, and which text."""
        if length > len(self.numbers):
            return self.numbers[:0], self.text[:0]
        last = len(self.numbers) - length + 1
        whole = self.text[:last] == self.text[length - 1 :]
        joined = self.numbers[:last].copy()
        for ahead in range(1, length):
            joined = joined * np.uint64(BEFORE) + self.numbers[ahead : ahead + last]
        return mixed(joined + np.uint64(length))[whole], self.text[:last][whole]

    def up_to(self, length: int) -> Numbers:
        """Of each word a line: it alone, and with those after it, up to so many in a row.

        Where its text ends sooner it stands there alone once more.
        """
        lines = np.repeat(mixed(self.numbers + np.uint64(1))[:, None], length, axis=1)
        joined = self.numbers
        for ahead in range(1, min(length, len(self.numbers))):
            joined = joined[:-1] * np.uint64(BEFORE) + self.numbers[ahead:]
            whole = self.text[:-ahead] == self.text[ahead:]
            lines[:-ahead, ahead][whole] = mixed(joined + np.uint64(ahead + 1))[whole]
        return lines

    def whole(self) -> Numbers:
        """A number for all words of each text together, in their order."""
        return mixed(_polynomials(self.numbers, BEFORE, self.first[:-1], self.first[1:]))


def numbered(texts: Sequence[str]) -> Numbered:
    """The words of these texts, as numbers."""
    # A word ends with its text: U+0000 is no letter.
    plain = [t if t.isascii() else NO_WORD.sub(" ", t) for t in (text.lower() for text in texts)]
    encoded = [text.encode() for text in plain]
    data = np.frombuffer(b"\0".join((b"", *encoded, b"")), np.uint8)
    inside = IS_WORD[data]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    numbers = _polynomials(CODES[data], BASE, starts, ends) + (ends - starts).astype(np.uint64)
    first = np.searchsorted(starts, np.cumsum([1, *(len(text) + 1 for text in encoded)]))
    return Numbered(mixed(numbers), np.repeat(np.arange(len(texts)), np.diff(first)), first)


def mixed(numbers: Numbers) -> Numbers:
    """The numbers, so that all bits of each depend on all bits of what it was made from."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def _polynomials(values: Numbers, base: int, starts: Places, ends: Places) -> Numbers:
    """Of each stretch the sum of its values, each times a power of the base by its place in it."""
    sums = np.empty(len(values) + 1, np.uint64)
    sums[0] = 0
    np.multiply(values, _powers(base, len(values)), out=sums[1:])
    np.cumsum(sums, out=sums)
    # Divided by the power at which the stretch begins: equal ones are equal wherever they stand.
    return np.asarray(
        (sums[ends] - sums[starts]) * _powers(pow(base, -1, 2**64), len(sums))[starts]
    )


_POWERS: dict[int, Numbers] = {}


def _powers(base: int, count: int) -> Numbers:
    """The base to the powers 0, 1, 2 …, modulo 2**64."""
    known = _POWERS.get(base)
    if known is None or len(known) < count:
        steps = np.full(max(count, 2**16), base, np.uint64)
        steps[0] = 1
        known = _POWERS[base] = np.cumprod(steps, dtype=np.uint64)
    return known[:count]
