"""Words in a row, of many texts at once, as 64-bit numbers: equal numbers are equal words.

A word is a run of letters, digits and underscores, whatever its case. Its number is made of its
bytes, eight at a time, mixed (SplitMix64's finalizer): two different ones of up to eight bytes
have different numbers, longer ones the same once in 2**64.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
Halves = NDArray[np.uint32]
"""The higher halves of numbers: enough to count by."""
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]

NO_WORD = re.compile(r"[^\w]")
IN_WORD = bytes(chr(i).isalnum() or chr(i) == "_" or i >= 128 for i in range(256))
"""By byte of UTF-8; of other letters than ASCII's only words are left when it is asked."""
FIRST = np.array([2 ** (8 * n) - 1 for n in range(9)], np.uint64)
"""To leave so many of eight bytes."""
BEFORE = 0xD6E8FEB86659FD93
"""By this what stands before counts more: the order matters. Odd, so that it can be divided by: a
row's number does not depend on where it stands."""
WITHOUT = pow(BEFORE, -1, 2**64)
"""Divides by it."""


@dataclass(frozen=True, eq=False)
class Numbered:
    """The words of some texts, one after another."""

    numbers: Numbers
    text: Places
    """Which text each word belongs to."""
    first: Places
    """Of each text its first word, and then how many words there are."""

    def rows(self, length: int) -> tuple[Numbers, Mask]:
        """From each word on so many in a row: their number, and whether they lie in one text."""
        count = max(len(self.numbers) - length + 1, 0)
        rows = self._joined(slice(count), slice(length, length + count))
        return rows, self.text[:count] == self.text[length - 1 :]

    @cached_property
    def whole(self) -> Numbers:
        """A number for all words of each text together, in their order."""
        return mixed(self._joined(self.first[:-1], self.first[1:]))

    def _joined(self, starts: Places | slice, ends: Places | slice) -> Numbers:
        """A number for the words of each stretch: they count by their place in it."""
        undone = _powers(WITHOUT, len(self._sums))[starts]
        return np.asarray((self._sums[ends] - self._sums[starts]) * undone)

    @cached_property
    def _sums(self) -> Numbers:
        """Of all words before each, and of all of them, by their place among all."""
        sums = np.zeros(len(self.numbers) + 1, np.uint64)
        np.cumsum(self.numbers * _powers(BEFORE, len(self.numbers)), out=sums[1:])
        return sums


def numbered(texts: Sequence[str]) -> Numbered:
    """The words of these texts, as numbers."""
    # A word ends with its text: U+0000 is no letter.
    encoded = [(t if t.isascii() else NO_WORD.sub(" ", t.lower())).encode() for t in texts]
    data = b"\0".join((b"", *encoded, b"")).lower()
    inside = np.frombuffer(data.translate(IN_WORD), bool)
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    first = np.searchsorted(starts, np.cumsum([1, *[len(text) + 1 for text in encoded]]))
    text = np.repeat(np.arange(len(texts)), np.diff(first))
    return Numbered(_numbers(data, starts, ends), text, first)


def _numbers(data: bytes, starts: Places, ends: Places) -> Numbers:
    """A number for the bytes of each of these stretches."""
    eights = np.ndarray(len(data), "<u8", data + bytes(8), strides=(1,))
    numbers = mixed(eights[starts] & FIRST.take(ends - starts, mode="clip"))
    taken, left = 8, np.flatnonzero(ends - starts > 8)
    while len(left):
        more = eights[starts[left] + taken]
        more &= FIRST.take(ends[left] - starts[left] - taken, mode="clip")
        numbers[left] = mixed(numbers[left] * np.uint64(BEFORE) + more)
        taken += 8
        left = left[ends[left] - starts[left] > taken]
    return numbers


def mixed(numbers: Numbers) -> Numbers:
    """The numbers, so that all bits of each depend on all bits of what it was made from."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def first_bits(numbers: Numbers, count: int) -> Places:
    """The highest bits of each number."""
    return (numbers >> np.uint64(64 - count)).view(np.int64)


def halves(numbers: Numbers) -> Halves:
    """The higher half of each number."""
    return (numbers >> np.uint64(32)).astype(np.uint32)


def up_to(length: int, words: Halves, text: Places) -> Halves:
    """Of each word a line: it alone, and with those after it, up to so many in a row.

    Where its text ends sooner it stands there alone once more.
    """
    lines = np.repeat(words[:, None], length, axis=1)
    joined = words
    for ahead in range(1, min(length, len(words))):
        joined = joined[:-1] * np.uint32(BEFORE % 2**32) + words[ahead:]
        np.copyto(lines[:-ahead, ahead], joined, where=text[:-ahead] == text[ahead:])
    return lines


_POWERS: dict[int, Numbers] = {}


def _powers(base: int, count: int) -> Numbers:
    """The base to the powers 0, 1, 2 …, modulo 2**64."""
    known = _POWERS.get(base)
    if known is None or len(known) < count:
        steps = np.full(max(count, 2**16), base, np.uint64)
        steps[0] = 1
        known = _POWERS[base] = np.cumprod(steps, dtype=np.uint64)
    return known[:count]
