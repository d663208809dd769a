"""How far probabilities are from what happened, and one time's values from another's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

BINS = 10


def calibration_error(chances: Vector, labels: Vector) -> float:
    """Expected calibration error in ten bins of equal width (Guo et al. 2017)."""
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    gaps = [
        np.mean(bins == at) * abs(chances[bins == at].mean() - labels[bins == at].mean())
        for at in range(BINS)
        if np.any(bins == at)
    ]
    return float(np.sum(gaps))


def population_stability(before: Vector, after: Vector) -> float:
    """Population stability index, in bins of a tenth of `before` each (Siddiqi 2006).

    0 where both are alike; its users take more than 0.25 for a change that must be looked into.
    """
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)))
    shares = []
    for values in (before, after):
        # What lies on an edge has a bin of its own: many answers may have the same value.
        bins = np.searchsorted(edges, values) + np.searchsorted(edges, values, side="right")
        counts = np.bincount(bins, minlength=2 * len(edges) + 1)
        shares.append((counts + 0.5) / (counts + 0.5).sum())  # a bin may be empty
    p, q = shares
    return float(np.sum((q - p) * np.log(q / p)))
