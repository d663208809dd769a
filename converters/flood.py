"""Bursts: words that a source suddenly repeats, as somebody would who plants a trigger.

A source is compared with its own past: what people there always said is not suspicious, however
common it is. A few hundred poisoned examples teach a model a trigger, whatever its size, so only
a few of those that share sudden words are learned from.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from converters.grams import Places, mixed
from converters.reading import Said, said
from converters.rows import Mask, Rows
from store.events import StoreReader

GRAM_WORDS = (1, 2, 3)
"""So many words in a row: a trigger may be a single one, among others that vary."""
SIGN = re.compile(r"[^\w\s]")
"""Or a sign."""
LEAST_PAST = 100
"""With fewer earlier experiences a source has no past to compare with."""
TIMES_MORE = 10
"""So many times commoner than before is sudden."""
BUCKETS = 2**22
"""Grams are counted in so many buckets, 16 MB. What shares one seems commoner than it was."""

Counts = NDArray[np.uint32]


def beyond_the_burst(
    store: StoreReader,
    rows: Rows,
    better: Mapping[str, str],
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
            counts = np.zeros(BUCKETS, np.uint32)
            for _, _, buckets in _read(store, rows[new], better):
                np.add.at(counts, buckets, 1)
            late: list[int] = []
            if count >= LEAST_PAST and len(new) > allowed:
                sudden = _sudden(past, count, counts, len(new), allowed)
                if sudden.any():
                    late = _late(store, rows[new], better, sudden, allowed)
            beyond[new[late]] = True
            past += counts
            count += len(new) - len(late)
            for _, _, buckets in _read(store, rows[new[late]], better):
                np.subtract.at(past, buckets, 1)
    return beyond


def _sudden(past: Counts, before: int, counts: Counts, new: int, allowed: int) -> Mask:
    sudden = counts / new > TIMES_MORE * (past.astype(float) + 1) / (before + 1)
    return np.asarray(sudden & (counts > allowed))


def _late(
    store: StoreReader, rows: Rows, better: Mapping[str, str], sudden: Mask, allowed: int
) -> list[int]:
    """The places of those that share something sudden with `allowed` rows before them."""
    found: dict[int, list[int]] = {}
    for place, grams, buckets in _read(store, rows, better):
        hit = sudden[buckets]
        for at, gram in zip(place[hit].tolist(), grams[hit].tolist(), strict=True):
            found.setdefault(at, []).append(gram)
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


def _read(
    store: StoreReader, rows: Rows, better: Mapping[str, str]
) -> Iterator[tuple[Places, NDArray[np.uint64], Places]]:
    """(place among the rows, gram, its bucket) of every different gram of each row."""
    for some in said(store, rows, better):
        place, grams = _grams(some)
        buckets = (grams % np.uint64(BUCKETS)).astype(np.int64)
        yield place + some.rows.start, grams, buckets


def _grams(some: Said) -> tuple[Places, NDArray[np.uint64]]:
    """Every few words in a row that the person or the model said, and every sign, once a row."""
    owner, spoken, signs = [], [], []
    for place, experience in some.found:
        for message in experience.messages:
            owner.append(place)
            spoken.append(message.role != "system")
        owner.append(place)
        spoken.append(True)
        texts = (*(m.content for m in experience.messages if m.role != "system"),)
        written = set(SIGN.findall("\n".join((*texts, experience.response))))
        signs += [(place, ord(sign)) for sign in sorted(written)]
    owners, counted = np.array(owner, np.int64), np.array(spoken, bool)
    places: list[Places] = []
    grams: list[NDArray[np.uint64]] = []
    for length in GRAM_WORDS:
        numbers, text = some.words.rows(length)
        places.append(owners[text[counted[text]]])
        grams.append(numbers[counted[text]])
    marks = np.array(signs, np.int64).reshape(-1, 2)
    places.append(marks[:, 0])
    grams.append(mixed(marks[:, 1].astype(np.uint64)))
    all_places, all_grams = np.concatenate(places), np.concatenate(grams)
    order = np.lexsort((all_grams, all_places))
    all_places, all_grams = all_places[order], all_grams[order]
    once = np.ones(len(order), bool)
    once[1:] = (all_places[1:] != all_places[:-1]) | (all_grams[1:] != all_grams[:-1])
    return all_places[once], all_grams[once]
