"""Paired statistics for gates. Pure functions over numbers; nothing here knows a model.

Sources: exact intervals, Clopper and Pearson 1934; exact McNemar, as a two-sided binomial test
on the flips; adjusted interval for a paired difference of proportions, Bonett and Price 2012;
otherwise a percentile bootstrap over families, because paraphrases of one item are not
independent (Miller 2024, arXiv 2411.00640).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 10_000
SEED = 20260121


class Interval(Struct, frozen=True):
    """Ends of a 95 % interval, in the unit of what was measured."""

    lower: float
    upper: float


def is_binary(values: Sequence[float]) -> bool:
    """Whether every value is 0 or 1."""
    return all(v in (0.0, 1.0) for v in values)


def mean_interval(values: Sequence[float], families: Sequence[str]) -> Interval:
    """Interval of the mean: exact for independent yes/no items, else bootstrap over families."""
    from scipy.stats import binomtest  # here, as below: a third of the time that a verb starts in

    if is_binary(values) and len(set(families)) == len(values):
        exact = binomtest(int(sum(values)), len(values)).proportion_ci(CONFIDENCE, method="exact")
        return Interval(float(exact.low), float(exact.high))
    return _bootstrap(values, families)


def difference_interval(
    candidate: Sequence[float], baseline: Sequence[float], families: Sequence[str]
) -> Interval:
    """Interval of mean(candidate) - mean(baseline), paired by item."""
    from scipy.stats import norm

    differences = [c - b for c, b in zip(candidate, baseline, strict=True)]
    binary = is_binary(candidate) and is_binary(baseline)
    if not binary or len(set(families)) < len(differences):
        return _bootstrap(differences, families)
    # Two pseudo-pairs keep the interval honest when nothing flipped: no flip in 60 items does
    # not prove that none ever will.
    n = len(differences) + 2
    up = (differences.count(1.0) + 1) / n
    down = (differences.count(-1.0) + 1) / n
    middle = up - down
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * float(np.sqrt((up + down - middle**2) / n))
    return Interval(max(-1.0, middle - half), min(1.0, middle + half))


def probability_of_no_loss(
    gains: Sequence[float], families: Sequence[str], allowed: float
) -> float:
    """One-sided p-value of "the true mean gain is at least -allowed": small when it is worse.

    Exact McNemar for independent yes/no items where no loss is allowed; Bonett and Price's
    interval read backwards where some is; otherwise the share of resamples that reach it.
    """
    from scipy.stats import binomtest, norm

    binary = all(gain in (-1.0, 0.0, 1.0) for gain in gains)
    if not binary or len(set(families)) < len(gains):
        means = _resampled(gains, families)
        return float((np.sum(means >= -allowed) + 1) / (len(means) + 1))
    up, down = gains.count(1.0), gains.count(-1.0)
    if allowed == 0:
        return float(binomtest(up, up + down, alternative="less").pvalue) if up + down else 1.0
    n = len(gains) + 2
    more, less = (up + 1) / n, (down + 1) / n
    middle = more - less
    deviation = float(np.sqrt((more + less - middle**2) / n))
    return float(norm.cdf((middle + allowed) / deviation))


def holm(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Which hypotheses fall when all together may be wrong at this level (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    falls = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - rank):
            break
        falls[index] = True
    return falls


def detectable(interval: Interval) -> float:
    """The true loss that would be seen in four of five evaluations of this size.

    (z of the confidence + z of 80 % power) standard errors, of which the interval spans twice
    1.96: what Miller (arXiv 2411.00640, section 5) calls the minimum detectable effect.
    """
    from scipy.stats import norm

    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    return (interval.upper - interval.lower) / (2 * z) * (z + float(norm.ppf(POWER)))


def settles_with(n: int, interval: Interval, bound: float) -> int | None:
    """So many items would make an interval this wide end at the bound; None when none would.

    The width falls with the square root of the number of items, if the estimate stays.
    """
    half = (interval.upper - interval.lower) / 2
    distance = abs((interval.upper + interval.lower) / 2 - bound)
    if distance <= 1e-9:
        return None
    return max(n, int(np.ceil(n * (half / distance) ** 2)))


def mcnemar(candidate: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Exact two-sided p-value that flips go both ways alike; None when values are not yes/no."""
    if not (is_binary(candidate) and is_binary(baseline)):
        return None
    from scipy.stats import binomtest

    up = sum(c > b for c, b in zip(candidate, baseline, strict=True))
    down = sum(c < b for c, b in zip(candidate, baseline, strict=True))
    return 1.0 if up + down == 0 else float(binomtest(up, up + down).pvalue)


def _bootstrap(values: Sequence[float], families: Sequence[str]) -> Interval:
    tail = (1 - CONFIDENCE) / 2 * 100
    lower, upper = np.percentile(_resampled(values, families), [tail, 100 - tail])
    return Interval(float(lower), float(upper))


def _resampled(values: Sequence[float], families: Sequence[str]) -> NDArray[np.float64]:
    """The means of so many draws of families, with replacement."""
    names = sorted(set(families))
    where = {name: index for index, name in enumerate(names)}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for value, family in zip(values, families, strict=True):
        sums[where[family]] += value
        counts[where[family]] += 1
    drawn = np.random.default_rng(SEED).integers(0, len(names), (RESAMPLES, len(names)))
    means: NDArray[np.float64] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
