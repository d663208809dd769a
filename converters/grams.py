"""Words in a row, of many texts at once, as 64-bit numbers: equal numbers are equal words.

A word is a run of letters, digits and underscores, whatever its case. Two different ones have
the same number once in 2**64: a polynomial of the word's bytes, mixed (SplitMix64's finalizer).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
Places = NDArray[np.int64]

NO_WORD = re.compile(r"[^\w]")
IN_WORD = bytes(chr(i).isalnum() or chr(i) == "_" or i >= 128 for i in range(256))
"""By byte of UTF-8; of other letters than ASCII's only words are left when it is asked."""
BASE = 0x9E3779B97F4A7C15
"""Odd, so that it can be divided by: a word's number does not depend on where it stands."""
BEFORE = 0xD6E8FEB86659FD93
"""By this the words before count more: their order matters."""


class Numbered(NamedTuple):
    """The words of some texts, one after another."""

    numbers: Numbers
    text: Places
    """Which text each word belongs to."""
    first: Places
    """Of each text its first word, and then how many words there are."""

    def rows(self, length: int) -> tuple[Numbers, Places]:
        """Every so many words in a row that lie in one text: their number, and which text."""
        count = max(len(self.numbers) - length + 1, 0)
        joined = _polynomials(self.numbers, BEFORE, slice(count), slice(length, length + count))
        last = self.text[length - 1 :]
        whole = self.text[:count] == last
        return joined[whole], last[whole]

    def up_to(self, length: int) -> Numbers:
        """Of each word a line: it alone, and with those after it, up to so many in a row.

        Where its text ends sooner it stands there alone once more.
        """
        lines = np.repeat(self.numbers[:, None], length, axis=1)
        joined = self.numbers
        for ahead in range(1, min(length, len(self.numbers))):
            joined = joined[:-1] * np.uint64(BEFORE) + self.numbers[ahead:]
            whole = self.text[:-ahead] == self.text[ahead:]
            np.copyto(lines[:-ahead, ahead], joined, where=whole)
        return lines

    def whole(self) -> Numbers:
        """A number for all words of each text together, in their order."""
        return mixed(_polynomials(self.numbers, BEFORE, self.first[:-1], self.first[1:]))


def numbered(texts: Sequence[str]) -> Numbered:
    """The words of these texts, as numbers."""
    # A word ends with its text: U+0000 is no letter.
    encoded = [(t if t.isascii() else NO_WORD.sub(" ", t.lower())).encode() for t in texts]
    data = b"\0".join((b"", *encoded, b"")).lower()
    inside = np.frombuffer(data.translate(IN_WORD), bool)
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    numbers = _polynomials(np.frombuffer(data, np.uint8), BASE, starts, ends)
    numbers = mixed(numbers + (ends - starts).view(np.uint64))
    first = np.searchsorted(starts, np.cumsum([1, *[len(text) + 1 for text in encoded]]))
    return Numbered(numbers, np.repeat(np.arange(len(texts)), np.diff(first)), first)


def mixed(numbers: Numbers) -> Numbers:
    """The numbers, so that all bits of each depend on all bits of what it was made from."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def first_bits(numbers: Numbers, count: int) -> Places:
    """The highest bits of each number."""
    return (numbers >> np.uint64(64 - count)).view(np.int64)


Some = Places | slice


def _polynomials(
    values: NDArray[np.unsignedinteger[Any]], base: int, starts: Some, ends: Some
) -> Numbers:
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
