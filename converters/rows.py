"""What selection keeps of each experience while it chooses: numbers, some 80 bytes, no words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW = np.dtype(
    [
        ("position", "i8"),
        ("source", "i4"),  # its place among the sources' names, as the next two
        ("category", "i1"),
        ("difficulty", "i1"),
        ("person", "i8"),  # who spoke, and 0 where it was the house itself or nobody is known
        ("conversation", "i8"),
        ("harm", "f8"),  # not a number where it is not known
        ("weighted", "f8"),
        ("trusted", "?"),
        ("curated", "?"),
        ("written", "?"),  # to be learned from, not said by a model in service
        ("corrected", "?"),
        ("practised", "?"),
        ("refuses", "?"),
        ("chars", "i4"),  # of the response
        ("said", "u8"),  # the words of question and answer
        ("asked", "u8"),  # those of the question, or a group of questions that are nearly the same
        ("answered", "i8"),  # a group of answers that are nearly the same
        ("side", "U10"),  # its split
        ("lot", "f8"),  # which side of the split its conversation drew
    ]
)
Rows = NDArray[Any]
"""Of the type ROW, in the order in which they were recorded."""
Mask = NDArray[np.bool_]
Keys = NDArray[Any]
NOBODY = 0


def key(*parts: object) -> int:
    """A number for this, equal where all parts are equal.

    It lasts as long as the process, and is compared, never ordered.
    """
    return hash(parts) or 1


def best(rows: Rows, keys: Keys, allowed: int) -> Mask:
    """At most so many of each key, the best first; those of NOBODY are all kept.

    What was written to be learned from goes before what a model said, a trusted source before
    others, then the higher score: no stranger's copy takes a better one's place.
    """
    keep = np.ones(len(rows), bool)
    ordered = np.sort(keys)
    later = ordered[allowed:]
    crowded = later[later == ordered[: len(later)]]
    # Few keys have more than that many: only theirs are put in order.
    places = np.flatnonzero(np.isin(keys, np.unique(crowded)) & (keys != NOBODY))
    some, its = rows[["written", "trusted", "weighted", "position"]][places], keys[places]
    standing = (~some["written"], ~some["trusted"])
    order = np.lexsort((some["position"], -some["weighted"], *standing[::-1], its))
    its = its[order]
    keep[places[order]] = np.arange(len(its)) - np.searchsorted(its, its) < allowed
    return keep


def within_share(rows: Rows, belongs: Mask, share: float) -> Mask:
    """All that do not belong, and the best of those that do, up to their share of the whole."""
    outside = int((~belongs).sum())
    allowed = len(rows) if share >= 1 else int(outside * share / (1 - share))
    return best(rows, belongs.astype(np.int8), allowed)


def counts(names: Mapping[int, str], codes: Keys) -> dict[str, int]:
    """How many rows each name has, the commonest first."""
    values, numbers = np.unique(codes, return_counts=True)
    found = {names[int(value)]: int(n) for value, n in zip(values, numbers, strict=True)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
