"""Harm by fitted heads, 0..1 for each dimension that its card lets speak.

Besides the four harms of the seeds there is `harmful_compliance`: the public labels say that an
answer does harm, not in which way. It does not know the panel, nor what harm is tolerated.
"""

from __future__ import annotations

from collections.abc import Sequence

from scorers import features, heads
from scorers.embedding import encoder
from scorers.judgeable import objection
from scorers.settings import PanelSettings
from store.records import Experience, Finding

NAME = "harm"


class HarmScorer:
    """One finding for each dimension of the card; silent dimensions abstain with its reason."""

    name = NAME

    def __init__(self) -> None:
        """Raises Misconfigured without encoder or weights, IntegrityError when they differ."""
        self.version = heads.version(NAME)
        self._heads = heads.load(NAME)
        heads.require(self._heads, encoder().sha256)

    def score(self, experiences: Sequence[Experience]) -> list[tuple[Finding, ...]]:
        """Findings for every experience, in order."""
        if not experiences:
            return []
        pairs = [(e.last_user_turn, e.response) for e in experiences]
        harm = self._heads.probabilities(features.inputs(pairs, encoder().embed))
        return [
            self._findings(objection(experience), row)
            for experience, row in zip(experiences, harm.tolist(), strict=True)
        ]

    def _findings(self, objected: str | None, row: Sequence[float]) -> tuple[Finding, ...]:
        return tuple(
            heads.finding(self.name, self.version, dimension, value, objected)
            for dimension, value in zip(self._heads.card.dimensions, row, strict=True)
        )


def load(_: PanelSettings) -> HarmScorer:
    """The scorer, ready."""
    return HarmScorer()
