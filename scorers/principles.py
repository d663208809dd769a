"""The five principles by fitted heads, each 0..10.

Fitted on rows written for this project (scorers/data), on top of the signals of the public sets.
It does not know the weights of the principles nor the labels: the panel's settings do.
"""

from __future__ import annotations

from collections.abc import Sequence

from scorers import features, heads, signals
from scorers.embedding import encoder
from scorers.judgeable import objection
from scorers.settings import PanelSettings
from store.records import Experience, Finding

NAME = "principles"


class PrinciplesScorer:
    """One finding per principle."""

    name = NAME

    def __init__(self) -> None:
        """Raises Misconfigured without encoder or weights, IntegrityError when they differ."""
        self.version = heads.version(NAME)
        self._signals = heads.load(signals.NAME)
        self._heads = heads.load(NAME)
        heads.require(self._signals, encoder().sha256)
        standing_on = {signals.NAME: self._signals.card.weights_sha256}
        heads.require(self._heads, encoder().sha256, standing_on)

    def score(self, experiences: Sequence[Experience]) -> list[tuple[Finding, ...]]:
        """Findings for every experience, in order."""
        if not experiences:
            return []
        pairs = [(e.last_user_turn, e.response) for e in experiences]
        inputs = signals.extend(features.inputs(pairs, encoder().embed), self._signals)
        scores = self._heads.outputs(inputs).clip(0.0, 10.0)
        return [
            self._findings(objection(experience), row)
            for experience, row in zip(experiences, scores.tolist(), strict=True)
        ]

    def _findings(self, objected: str | None, row: Sequence[float]) -> tuple[Finding, ...]:
        return tuple(
            heads.finding(self.name, self.version, dimension, value, objected)
            for dimension, value in zip(self._heads.card.dimensions, row, strict=True)
        )


def load(_: PanelSettings) -> PrinciplesScorer:
    """The scorer, ready."""
    return PrinciplesScorer()
