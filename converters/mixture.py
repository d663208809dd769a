"""The mixture: how much of a dataset each kind of row should be, and what could not be met.

Rows are never repeated to fill a share, and no kind takes the place that another left empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from converters.rows import Keys, Mask, Rows, best, counts
from store.records import Noun, Policy

OTHERS = "*"
"""Names every kind that has no weight of its own."""
NO_NAME = ""
FREE, NOWHERE = -1, -2
"""Kinds that no share is asked of, and that have no place in the mixture."""
Names = Mapping[str, Mapping[int, str]]
"""Of sources, categories and difficulties, by their numbers in the rows."""


class Share(Noun, frozen=True, kw_only=True):
    """What was asked of one kind of row."""

    asked: int
    available: int
    taken: int


class Blend(NamedTuple):
    """How many rows each kind should have, relative to each other."""

    weights: Mapping[str, float]
    kind: Callable[[Rows], Keys]
    """The place of each row's kind among the weights, FREE or NOWHERE."""
    size: int
    """Rows that are divided by the weights; 0: as many as have a kind."""

    def asked(self, rows: Rows) -> dict[str, int]:
        """How many rows of each kind are wanted of these."""
        total = sum(self.weights.values())
        size = self.size or int((self.kind(rows) >= 0).sum())
        return {
            name: round(size * weight / total) if total else 0
            for name, weight in self.weights.items()
        }

    def keep(self, rows: Rows) -> Mask:
        """The rows that have a place, the best of each kind."""
        kinds = self.kind(rows)
        mask = kinds == FREE
        for place, wanted in enumerate(self.asked(rows).values()):
            mine = np.flatnonzero(kinds == place)
            mask[mine[best(rows[mine], np.ones(len(mine), np.int8), wanted)]] = True
        return np.asarray(mask, bool)

    def met(self, before: Rows, after: Rows) -> dict[str, Share]:
        """What was asked of each kind, was there, and is left at the end."""
        there, left = self.kind(before), self.kind(after)
        return {
            name: Share(
                asked=wanted,
                available=int((there == place).sum()),
                taken=int((left == place).sum()),
            )
            for place, (name, wanted) in enumerate(self.asked(before).items())
        }


def blends(
    policy: Policy, rows: Rows, names: Names, *, replayed: Sequence[int]
) -> dict[str, Blend]:
    """The shares that the policy asks for, in the order in which they are met."""
    found: dict[str, Blend] = {}
    if policy.replay_share and policy.size:
        found["replay"] = Blend(
            {"new": 1 - policy.replay_share, "earlier": policy.replay_share},
            lambda rows: np.isin(rows["position"], replayed).astype(int),
            policy.size,
        )
    if policy.mixture or policy.temperature > 1 or policy.size:
        weights = policy.mixture or tempered(
            counts(names["source"], rows["source"]), policy.temperature
        )
        found["source"] = Blend(weights, _kinds("source", names, weights), policy.size)
    targets: dict[str, Mapping[Any, float]] = {
        "category": policy.categories,
        "difficulty": policy.difficulties,
    }
    for what, wanted in targets.items():
        if wanted:
            found[what] = Blend(wanted, _kinds(what, names, wanted), 0)
    return found


def tempered(counts: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Weights of kinds by how many there are of each: the higher, the more the rare ones count."""
    return {name: count ** (1 / temperature) for name, count in counts.items()}


def _kinds(what: str, names: Names, weights: Mapping[str, float]) -> Callable[[Rows], Keys]:
    places = {name: place for place, name in enumerate(weights)}
    others = places.get(OTHERS, NOWHERE)
    kinds = [
        FREE if name == NO_NAME else places.get(name, others)
        for _, name in sorted(names[what].items())
    ]
    return lambda rows: np.array(kinds, int)[rows[what]]
