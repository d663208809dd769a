"""Hold-outs: what belongs together is never on both sides, and stays on its side.

Together are a conversation, and questions that are nearly the same. Their side is drawn by the
first one's conversation; what an earlier dataset held out is held out for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from converters.rows import Keys, Rows
from store.records import Dataset

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
"""From what is learned from to what nothing is chosen by."""


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
    alike: Keys,
    *,
    holdout_share: float,
    test_share: float,
    earlier: Mapping[str, Sequence[int]],
) -> list[Split]:
    """The side of each row. `alike` numbers the groups of questions that are nearly the same.

    `earlier` says which experiences earlier datasets had, by split. Of a group whose rows were on
    several sides all go to the one that is farthest from training.
    """
    before = {position: name for name in SPLITS for position in earlier.get(name, ())}
    group = _together(rows["conversation"], alike)
    found: dict[int, Split] = {}
    for at, position in zip(group, rows["position"].tolist(), strict=True):
        if (side := before.get(position)) is not None:
            found[at] = max(side, found.get(at, side), key=SPLITS.index)
    _, first = np.unique(group, return_index=True)
    drawn = rows["lot"][first]
    return [
        found[at] if at in found else split_of(drawn[at], holdout_share, test_share) for at in group
    ]


def _together(*keys: Keys) -> list[int]:
    """Rows that share any key, or a row that does: one number each, from 0 on."""
    count = len(keys[0])
    start, edges = count, []
    for some in keys:
        _, place = np.unique(some, return_inverse=True)
        edges.append(place + start)
        start += int(place.max(initial=-1)) + 1
    row = np.tile(np.arange(count), len(keys))
    graph = coo_array((np.ones(len(row), bool), (row, np.concatenate(edges))), (start, start))
    _, label = connected_components(graph, directed=False)
    _, numbered = np.unique(label[:count], return_inverse=True)
    return [int(one) for one in numbered]
