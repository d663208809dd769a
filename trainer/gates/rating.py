"""A judge's rating from 1 to 10, as its mean over what the model might say: nothing is drawn.

It is told as a share of the full rating, so that what gates allow is in one unit: 7.5 of 10, or 30
of 40, is .75.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainer.gates.sample import Sample

FULL = 10
"""Points of the best rating."""


def expected(_: Sample, probabilities: Mapping[str, float]) -> float:
    """The mean rating, as a share of the full one."""
    return sum(int(rating) * share for rating, share in probabilities.items()) / FULL
