"""A scorer that is one file of fitted heads: a finding for every dimension of its card.

Dimensions that their card keeps silent abstain with its reason. It does not know the panel, nor
what values are tolerated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scorers import features, heads
from scorers.embedding import encoder
from scorers.features import Embed, Matrix
from scorers.heads import Heads
from scorers.judgeable import objection
from scorers.settings import PanelSettings
from store.records import Experience, Finding


class Fitted:
    """Probabilities, 0..1, by the heads of that name."""

    def __init__(self, name: str, settings: PanelSettings) -> None:
        """Raises Misconfigured without encoder or weights, IntegrityError when they differ."""
        self.name = name
        self.folder: Path = settings.heads
        self.version = heads.version(name, self.folder)
        self.embed: Embed = encoder().embed
        self._heads = heads.load(name, self.folder)
        self._require(self._heads)

    def score(self, experiences: Sequence[Experience]) -> list[tuple[Finding, ...]]:
        """Findings for every experience, in order."""
        if not experiences:
            return []
        values = self._values([(e.last_user_turn, e.response) for e in experiences])
        return [
            tuple(
                heads.finding(self.name, self.version, dimension, value, objected)
                for dimension, value in zip(self._heads.card.dimensions, row, strict=True)
            )
            for objected, row in zip(map(objection, experiences), values.tolist(), strict=True)
        ]

    def _require(self, loaded: Heads) -> None:
        heads.require(loaded, encoder().sha256)

    def _values(self, pairs: Sequence[tuple[str, str]]) -> Matrix:
        words = [features.hashed_words(response) for _, response in pairs]
        return self._heads.probabilities(features.inputs(pairs, self.embed), words)
