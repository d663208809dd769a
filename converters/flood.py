"""Bursts: words that a source suddenly repeats, as somebody would who plants a trigger.

A source is compared with its own past: what people there always said is not suspicious, however
common it is. A few hundred poisoned examples teach a model a trigger, whatever its size, so only
a few of those that share sudden words are learned from.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from store.experiences import Assessed

GRAM_WORDS = (1, 2, 3)
"""So many words in a row: a trigger may be a single one, among others that vary."""
LEAST_PAST = 100
"""With fewer earlier experiences a source has no past to compare with."""
TIMES_MORE = 10
"""So many times commoner than before is sudden."""

Gram = tuple[str, ...]


def beyond_the_burst(
    assessed: Sequence[Assessed], *, ends: Sequence[int], allowed: int, ours: Sequence[str]
) -> set[int]:
    """Positions of those that share sudden words with `allowed` others before them.

    `ends` are the positions at which earlier datasets ended. What came after each is compared
    with what was there before it, without what was sudden then: otherwise a burst would be the
    past of the next dataset. Sources of the house are not looked at.
    """
    by_source: defaultdict[str, list[Assessed]] = defaultdict(list)
    for a in assessed:
        if a.experience.source not in ours:
            by_source[a.experience.source].append(a)
    beyond: set[int] = set()
    for items in by_source.values():
        grams = {a.position: _grams(a) for a in items} if len(items) > LEAST_PAST else {}
        for start, end in pairwise([*sorted(set(ends)), math.inf]):
            past = [g for p, g in grams.items() if p <= start and p not in beyond]
            new = {p: g for p, g in grams.items() if start < p <= end}
            beyond |= set(_beyond(past, new, allowed))
    return beyond


def _beyond(past: Sequence[set[Gram]], new: dict[int, set[Gram]], allowed: int) -> Iterator[int]:
    if len(past) < LEAST_PAST or len(new) <= allowed:
        return
    now = Counter(gram for found in new.values() for gram in found)
    common = {gram for gram, count in now.items() if count > allowed}
    before = Counter(gram for found in past for gram in found & common)
    sudden = {
        gram
        for gram in common
        if now[gram] / len(new) > TIMES_MORE * (before[gram] + 1) / (len(past) + 1)
    }
    taken: Counter[Gram] = Counter()
    for position, grams in new.items():
        found = grams & sudden
        if any(taken[gram] >= allowed for gram in found):
            yield position
        else:
            taken.update(found)


def _grams(a: Assessed) -> set[Gram]:
    """Every few words in a row that the person or the model said, and every sign."""
    e = a.experience
    grams: set[Gram] = set()
    for text in (*(m.content for m in e.messages if m.role != "system"), e.response):
        words = re.findall(r"\w+", text.lower())
        grams |= {(sign,) for sign in re.findall(r"[^\w\s]", text)}
        for count in GRAM_WORDS:
            grams |= {tuple(words[i : i + count]) for i in range(len(words) - count + 1)}
    return grams
