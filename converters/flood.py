"""Bursts: words that a source suddenly repeats, as somebody would who plants a trigger.

A source is compared with its own past: what people there always said is not suspicious, however
common it is. A few hundred poisoned examples teach a model a trigger, whatever its size, so only
a few of those that share sudden words are learned from.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.grams import Numbers, Places, mixed
from converters.reading import Said, said
from converters.rows import Mask, Rows
from store.events import StoreReader

MOST_WORDS = 3
"""In a row: a trigger may be a single one, among others that vary."""
SIGN = re.compile(r"[^\w\s]")
"""Or a sign."""
PLAIN = bytes(code for code in range(128) if not SIGN.match(chr(code)))
"""The letters and spaces of ASCII, to be passed over quickly."""
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
            counts = _counts(store, rows[new], better)
            late: list[int] = []
            if count >= LEAST_PAST and len(new) > allowed:
                sudden = _sudden(past, count, counts, len(new), allowed)
                if sudden.any():
                    late = _late(store, rows[new], better, sudden, allowed)
            beyond[new[late]] = True
            past += counts - _counts(store, rows[new[late]], better)
            count += len(new) - len(late)
    return beyond


def _counts(store: StoreReader, rows: Rows, better: Mapping[str, str]) -> Counts:
    """In how many rows there is something of each bucket."""
    counts = np.zeros(BUCKETS, np.uint32)
    for some in said(store, rows, better):
        grams = _grams(some)
        buckets = _buckets(grams.numbers)
        for start, end in pairwise(grams.first.tolist()):
            counts[buckets[start:end]] += np.uint32(1)  # once, however often it is said there
    return counts


def _sudden(past: Counts, before: int, counts: Counts, new: int, allowed: int) -> Mask:
    sudden = counts > allowed
    before_it = (past[sudden].astype(float) + 1) / (before + 1)
    sudden[sudden] = counts[sudden] / new > TIMES_MORE * before_it
    return np.asarray(sudden)


def _late(
    store: StoreReader, rows: Rows, better: Mapping[str, str], sudden: Mask, allowed: int
) -> list[int]:
    """The places of those that share something sudden with `allowed` rows before them."""
    found: dict[int, set[int]] = {}
    for some in said(store, rows, better):
        grams = _grams(some)
        hit, which = np.nonzero(sudden[_buckets(grams.numbers)])
        place = np.searchsorted(grams.first, hit, side="right") - 1 + some.rows.start
        for at, gram in zip(place.tolist(), grams.numbers[hit, which].tolist(), strict=True):
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


class Grams(NamedTuple):
    """Every few words in a row that the person or the model said, and every sign."""

    numbers: Numbers
    """A line for each word, and for each sign; a row's stand together."""
    first: Places
    """Of each row its first line, and then how many lines there are."""


def _grams(some: Said) -> Grams:
    owner, spoken, signs = [], [], []
    for place, experience in some.found:
        texts = [turn.content for turn in experience.messages if turn.role != "system"]
        spoken += [turn.role != "system" for turn in experience.messages]
        owner += [place] * (len(experience.messages) + 1)
        spoken.append(True)
        written = set(_signs("\n".join((*texts, experience.response))))
        signs += [(place, ord(sign)) for sign in written]
    counted = np.array(spoken, bool)[some.words.text]
    marks = np.array(signs, np.int64).reshape(-1, 2)
    places = np.concatenate((np.array(owner, np.int64)[some.words.text[counted]], marks[:, 0]))
    numbers = np.concatenate(
        (
            some.words.up_to(MOST_WORDS)[counted],
            np.repeat(mixed(marks[:, 1].astype(np.uint64))[:, None], MOST_WORDS, axis=1),
        )
    )
    order = np.argsort(places, kind="stable")
    count = some.rows.stop - some.rows.start
    return Grams(numbers[order], np.searchsorted(places[order], np.arange(count + 1)))


def _signs(text: str) -> list[str]:
    return SIGN.findall(text.encode().translate(None, PLAIN).decode())


def _buckets(grams: Numbers) -> Places:
    return (grams % np.uint64(BUCKETS)).astype(np.int64)
