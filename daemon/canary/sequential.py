"""How strongly live answers speak against a release, however often one looks. Pure.

Testing by betting (Waudby-Smith and Ramdas, Estimating means of bounded random variables by
betting, JRSS-B 86, 2024, arXiv 2010.09686). To show that a mean is above `allowed`, one bets on
every value x as it comes:

    capital = mean over bets b of   product over x of   1 + b * (x - allowed)

While the mean is at most `allowed` no bet gains on average, so the capital is a non-negative
supermartingale that begins at 1, and by Ville's inequality the probability that it ever reaches
1 / alpha is at most alpha: at all looks together, at any number of them, with any rule of when to
stop. The bets are a fixed grid between 0 and the most that can be lost, because the best one
depends on how bad it is.

Two releases are compared by differences, an answer of the one beside answers of the other, which
asks only that each release's answers come from one distribution, each for itself. Answers to one
person are alike, which this does not know: the caller counts few of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
BETS = np.geomspace(0.005, 0.95, 16)
"""Shares of the highest bet after which nothing can be lost beyond the capital."""
MOST = 1e12
"""Evidence above this is shown as this."""


def against(values: Sequence[float] | Vector, allowed: float, *, least: float = 0.0) -> float:
    """The most evidence that there ever was, in this order, that the mean is above `allowed`.

    At least 1 / alpha is enough at level alpha. No value may be below `least`; 1 for no values.
    """
    if len(values) == 0:
        return 1.0
    bets = BETS / (allowed - least)
    gains = np.outer(bets, np.asarray(values, dtype=np.float64) - allowed)
    capital = np.logaddexp.reduce(np.log1p(gains).cumsum(axis=1), axis=0) - np.log(len(bets))
    return float(np.exp(min(max(0.0, capital.max()), np.log(MOST))))


def worse_than(
    new: Sequence[float], old: Sequence[float], margin: float, *, beside: int = 1
) -> float:
    """The same for: the mean of `new` is more than `margin` above that of `old`; values 0..1.

    `beside`: how many of the old each new one is set beside. Chosen before anything is looked at,
    such as 9 where the new release answers a tenth.
    """
    return against(_differences(new, old, beside), margin, least=-1.0)


def pairs(new: int, old: int, beside: int = 1) -> int:
    """How many comparisons so many values of each make."""
    return min(new, old // beside)


def _differences(new: Sequence[float], old: Sequence[float], beside: int) -> Vector:
    n = pairs(len(new), len(old), beside)
    groups = np.asarray(old[: n * beside], dtype=np.float64).reshape(n, beside)
    means: Vector = groups.mean(axis=1)
    return np.asarray(new[:n], dtype=np.float64) - means
