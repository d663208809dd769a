"""A judge's rating from 1 to 10, as its mean over what the model might say: nothing is drawn."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.gates.sample import Sample


def expected(_: Sample, probabilities: Mapping[str, float]) -> float:
    """The mean rating, in points."""
    return sum(int(rating) * share for rating, share in probabilities.items())
