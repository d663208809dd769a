"""Hold-outs: what belongs together is never on both sides, and stays on its side.

A conversation draws its side; what an earlier dataset held out is held out for good. What is held
out and asks nearly what is trained on would be no test, so it is left out: nobody can draw
others' rows away from training by asking the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from converters.rows import NOBODY, Rows
from store.records import Dataset

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
"""From what is learned from to what nothing is chosen by."""
BETWEEN: Literal[""] = ""
"""Of what is on no side."""


def lot(conversation: str) -> float:
    """What a conversation draws, at least 0 and below 1: always the same."""
    return int.from_bytes(hashlib.sha256(conversation.encode()).digest()[:8], "big") / 2**64


def split_of(drawn: float, holdout_share: float, test_share: float) -> Split:
    """The side of a lot; about these shares of them are held out."""
    if drawn < holdout_share:
        return "validation"
    return "test" if drawn >= 1 - test_share else "train"


def in_earlier(datasets: Iterable[Dataset]) -> dict[str, tuple[int, ...]]:
    """Positions of the experiences in these datasets, by split: the one farthest from training."""
    found: dict[int, Split] = {}
    for dataset in datasets:
        if not dataset.held_out and set(dataset.counts) - {SPLITS[0]}:
            continue  # of the first versions, which did not record it: their lots are as they were
        held_out = {at: split for split, some in dataset.held_out.items() for at in some}
        for position in dataset.members:
            side = next((name for name in SPLITS if name == held_out.get(position)), SPLITS[0])
            found[position] = max(side, found.get(position, side), key=SPLITS.index)
    return {
        name: tuple(sorted(position for position, side in found.items() if side == name))
        for name in SPLITS
    }


def sides(
    rows: Rows,
    *,
    holdout_share: float,
    test_share: float,
    earlier: Mapping[str, Sequence[int]],
) -> NDArray[np.str_]:
    """The side of each row; BETWEEN where its question is nearly one that is nearer to training.

    `earlier` says which experiences earlier datasets had, by split. A conversation of which some
    was on several sides is on the one that is farthest from training.
    """
    _, first, group = np.unique(rows["conversation"], return_index=True, return_inverse=True)
    drawn = [split_of(lot, holdout_share, test_share) for lot in rows["lot"][first].tolist()]
    # From here a side is its place in SPLITS: the higher, the farther from training.
    farthest = np.full(len(first), -1)
    for place, name in enumerate(SPLITS):
        farthest[group[np.isin(rows["position"], earlier.get(name, ()))]] = place
    lots = np.array([SPLITS.index(side) for side in drawn], int)
    of_conversation = np.where(farthest < 0, lots, farthest)
    side = of_conversation[group]
    questions, question = np.unique(rows["asked"], return_inverse=True)
    nearest = np.full(len(questions), len(SPLITS))
    np.minimum.at(nearest, question, side)
    alone = (rows["asked"] == NOBODY) | (nearest[question] == side)
    return np.where(alone, np.array(SPLITS)[side], BETWEEN)
