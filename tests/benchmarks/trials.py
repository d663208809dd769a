"""How many live answers a trial needs to find a release whose harm rate doubled.

Beside a test that may look once: by its formula, at the same level and power, it needs so many.
"""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np

from daemon.canary.sequential import Vector, worse_than
from daemon.canary.settings import CanarySettings
from tests.benchmarks.figures import Figure

STREAMS = 100
POWER = 0.95
ON = CanarySettings()
LEVEL = ON.alpha / 2
"""Half of alpha: the other half is for the bound that holds whatever the predecessor did."""
RATES = {0.02: 9_000, 0.05: 3_000, 0.10: 1_500}
"""Harm rates of the predecessor, and how many answers of the release are drawn at most."""


def trials(folder: Path) -> list[Figure]:
    """So many of the release's answers find it in 95 of 100 streams, by rate and by share."""
    return [_figure(rate, most, beside) for rate, most in RATES.items() for beside in (1, 9)]


def _figure(rate: float, most: int, beside: int) -> Figure:
    found = sorted(_needed(seed, rate, most, beside) for seed in range(STREAMS))
    equal = sum(_is_found(seed, rate, rate, most, beside) for seed in range(STREAMS))
    return Figure(
        name=f"answers that find harm of {rate:g} doubled, each beside {beside}",
        unit="answers",
        ours=found[int(POWER * STREAMS) - 1],
        reference_name="a test that may look once",
        reference=_once(rate, beside),
        runs=(found[0], found[STREAMS // 2], found[-1]),
        note=f"least, median and most of {STREAMS}; equal streams found: {equal}",
    )


def _needed(seed: int, rate: float, most: int, beside: int) -> float:
    """The first answer by which harm that doubled was found; the evidence never falls."""
    new, old = _streams(seed, 2 * rate, rate, most, beside)
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        enough = worse_than(new[:middle], old[: middle * beside], ON.harm_margin, beside=beside)
        low, high = (low, middle) if enough >= 1 / LEVEL else (middle, high)
    return float(high)


def _is_found(seed: int, new_rate: float, rate: float, most: int, beside: int) -> bool:
    new, old = _streams(seed, new_rate, rate, most, beside)
    return worse_than(new, old, ON.harm_margin, beside=beside) >= 1 / LEVEL


def _streams(
    seed: int, new_rate: float, rate: float, most: int, beside: int
) -> tuple[Vector, Vector]:
    draw = np.random.default_rng([seed, beside])
    new, old = draw.random(most) < new_rate, draw.random(most * beside) < rate
    return new.astype(float), old.astype(float)


def _once(rate: float, beside: int) -> float:
    """Answers of the release for a z-test of two rates with a margin."""
    z = NormalDist().inv_cdf(1 - LEVEL) + NormalDist().inv_cdf(POWER)
    variance = 2 * rate * (1 - 2 * rate) + rate * (1 - rate) / beside
    return float(np.ceil(z**2 * variance / (rate - ON.harm_margin) ** 2))
