"""Bursts: words that a source suddenly repeats, as somebody would who plants a trigger.

A source is compared with its own past: what people there always said is not suspicious, however
common it is. A few hundred poisoned examples teach a model a trigger, whatever its size, so only
a few of those that share sudden words are learned from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from converters.aside import Aside
from converters.grams import Halves
from converters.rows import Keys, Mask, Rows

MOST_WORDS = 3
"""In a row: a trigger may be a single one, or a sign, among others that vary."""
LEAST_PAST = 100
"""With fewer earlier experiences a source has no past to compare with."""
TIMES_MORE = 10
"""So many times commoner than before is sudden."""
BUCKET_BITS = 22
"""Grams are counted in buckets by their first bits, 16 MB. What shares one seems commoner than it
was."""
BUCKETS = 2**BUCKET_BITS
OWNER_BITS = 32 - BUCKET_BITS
"""Left beside a bucket, to tell apart the experiences that are read at once."""

Counts = NDArray[np.uint32]


def beyond_the_burst(
    aside: Aside,
    rows: Rows,
    *,
    of: Sequence[int],
    ends: Sequence[int],
    allowed: int,
) -> Mask:
    """Which rows share sudden words with `allowed` others of their source before them.

    `ends` are the positions at which earlier datasets ended. What came after each is compared
    with what was there before it, without what was sudden then: otherwise a burst would be the
    past of the next dataset. Looked at are the sources `of`.
    """
    beyond = np.zeros(len(rows), bool)
    periods = list(pairwise([*sorted(set(ends)), math.inf]))
    for source in of:
        places = np.flatnonzero(rows["source"] == source)
        if len(places) <= LEAST_PAST or not periods:
            continue
        position = rows["position"][places]
        past, count = np.zeros(BUCKETS, np.uint32), 0
        for start, end in [(-math.inf, periods[0][0]), *periods]:
            new = places[(start < position) & (position <= end)]
            if not len(new):
                continue
            counts = _counts(aside, rows["position"][new])
            late: list[int] = []
            if count >= LEAST_PAST and len(new) > allowed:
                sudden = _sudden(past, count, counts, len(new), allowed)
                if sudden.any():
                    late = _late(aside, rows["position"][new], sudden, allowed)
            beyond[new[late]] = True
            past += counts
            if late:
                past -= _counts(aside, rows["position"][new[late]])
            count += len(new) - len(late)
    return beyond


def _counts(aside: Aside, positions: Keys) -> Counts:
    """In how many of these experiences there is something of each bucket."""
    counts = np.zeros(BUCKETS, np.uint32)
    for some in aside.speech(positions):
        owner = np.repeat(np.arange(len(some.first) - 1, dtype=np.uint32), np.diff(some.first))
        said = _buckets(some.up_to(MOST_WORDS)) << np.uint32(OWNER_BITS) | owner[:, None]
        said = np.sort(said, axis=None)
        once = np.ones(len(said), np.uint32)  # however often one of them says it
        once[1:] = said[1:] != said[:-1]
        np.add.at(counts, said >> np.uint32(OWNER_BITS), once)
    return counts


def _sudden(past: Counts, before: int, counts: Counts, new: int, allowed: int) -> Mask:
    sudden = counts > allowed
    before_it = (past[sudden].astype(float) + 1) / (before + 1)
    sudden[sudden] = counts[sudden] / new > TIMES_MORE * before_it
    return np.asarray(sudden)


def _late(aside: Aside, positions: Keys, sudden: Mask, allowed: int) -> list[int]:
    """The places of those that share something sudden with `allowed` others before them."""
    found: dict[int, set[int]] = {}
    for some in aside.speech(positions):
        grams = some.up_to(MOST_WORDS)
        hit = np.flatnonzero(sudden[_buckets(grams)])
        word = hit // MOST_WORDS
        place = np.searchsorted(some.first, word, side="right") - 1 + some.places.start
        for at, gram in zip(place.tolist(), grams.ravel()[hit].tolist(), strict=True):
            found.setdefault(at, set()).add(gram)
    # A bucket is more than one gram: which of them is it that so many share?
    shared = Counter(gram for grams in found.values() for gram in grams)
    taken: Counter[int] = Counter()
    late = []
    for at in sorted(found):
        many = [gram for gram in found[at] if shared[gram] > allowed]
        if any(taken[gram] >= allowed for gram in many):
            late.append(at)
        else:
            taken.update(many)
    return late


def _buckets(grams: Halves) -> Halves:
    return grams >> np.uint32(32 - BUCKET_BITS)
