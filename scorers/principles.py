"""The five principles by fitted heads, each 0..10.

Fitted on rows written for this project (scorers/data), on top of the signals of the public sets.
It does not know the weights of the principles nor the labels: the panel's settings do.
"""

from __future__ import annotations

from collections.abc import Sequence

from scorers import features, heads, signals
from scorers.embedding import encoder
from scorers.features import Matrix
from scorers.fitted import Fitted
from scorers.heads import Heads
from scorers.settings import PanelSettings

NAME = "principles"


class Principles(Fitted):
    """One finding per principle."""

    def _require(self, loaded: Heads) -> None:
        self._signals = heads.load(signals.NAME, self.folder)
        heads.require(self._signals, encoder().sha256)
        standing_on = {signals.NAME: self._signals.card.weights_sha256}
        heads.require(loaded, encoder().sha256, standing_on)

    def _values(self, pairs: Sequence[tuple[str, str]]) -> Matrix:
        inputs = signals.extend(features.inputs(pairs, self.embed), self._signals)
        words = [features.hashed_words(response) for _, response in pairs]
        return self._heads.outputs(inputs, words).clip(0.0, 10.0)


def load(settings: PanelSettings) -> Principles:
    """The scorer, ready."""
    return Principles(NAME, settings)
