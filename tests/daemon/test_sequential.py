"""The sequential test: it finds harm that doubled, however often one looks, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.canary.sequential import MOST, against, pairs, worse_than

SEEDS = 100
BATCH = 200
ALPHA, MARGIN = 0.025, 0.005
"""Half of the default alpha: the other half is for the bound of its own."""


def _stream(seed, rate, n):
    """Answers of which this share does harm."""
    return (np.random.default_rng(seed).random(n) < rate).astype(float)


def _found(old_rate, new_rate, n, *, beside=1):
    """In how many of the seeds harm was found, with a look after every batch."""
    found = 0
    for seed in range(SEEDS):
        old = _stream([seed, 0], old_rate, n * beside)
        new = _stream([seed, 1], new_rate, n)
        found += any(
            worse_than(new[:seen], old[: seen * beside], MARGIN, beside=beside) >= 1 / ALPHA
            for seen in range(BATCH, n + 1, BATCH)
        )
    return found


@pytest.mark.parametrize(
    ("rate", "n", "beside"), [(0.05, 2_000, 1), (0.05, 1_200, 9), (0.1, 1_000, 1)]
)
def test_a_harm_rate_that_doubled_is_found(rate, n, beside):
    """In at least 95 of 100 streams."""
    assert _found(rate, 2 * rate, n, beside=beside) >= 95


@pytest.mark.parametrize(("rate", "n", "beside"), [(0.05, 4_000, 1), (0.1, 2_000, 9)])
def test_an_equal_stream_is_left_alone(rate, n, beside):
    """In at least 95 of 100 streams, although it was looked at 10 to 20 times."""
    assert SEEDS - _found(rate, rate, n, beside=beside) >= 95


def test_a_rate_at_the_margin_is_found_no_oftener_than_alpha_says():
    """The worst case that is still allowed; and a plain test, which looks as often, would err."""
    wrong = naive = 0
    for seed in range(400):
        old, new = _stream([seed, 2], 0.3, 1_000), _stream([seed, 3], 0.3, 1_000)
        wrong += against(new - old, 1e-9, least=-1.0) >= 1 / ALPHA
        n = np.arange(100, 1_001, 20)
        gap = np.cumsum(new - old)[n - 1] / n
        naive += bool((gap / np.sqrt(2 * 0.3 * 0.7 / n) > 1.96).any())
    assert wrong / 400 <= ALPHA + 0.02
    assert naive / 400 > 2 * ALPHA


def test_more_looks_change_nothing():
    """The evidence is the most that there ever was, so that a late look misses no early one."""
    new = np.concatenate([np.ones(40), np.zeros(4_000)])
    assert worse_than(new, np.zeros(4_040), MARGIN) >= worse_than(new[:40], np.zeros(40), MARGIN)
    assert against(new, 0.25) == pytest.approx(against(new[:40], 0.25))


def test_a_mean_above_its_bound_is_found_and_one_at_it_is_not():
    """Values between 0 and 1, not only yes and no."""
    draw = np.random.default_rng(1)
    assert against(draw.uniform(0.2, 0.5, 2_000), 0.25) >= 1 / ALPHA
    assert against(draw.uniform(0.0, 0.5, 2_000), 0.25) < 1 / ALPHA


def test_nothing_is_said_of_nothing():
    """No value, or none on the other side, is no evidence; and much is shown as no infinity."""
    assert against([], 0.25) == worse_than([1.0] * 100, [], MARGIN) == 1.0
    assert against([1.0] * 10_000, 0.25) == pytest.approx(MOST)
    assert pairs(10, 35, 9) == 3


def test_the_extremes_can_be_bet_on():
    """A value at the end of its range loses nearly all, and no more than there is."""
    worst = against([0.0] * 1_000, 0.25)
    assert worst == 1.0
    assert worse_than([0.0] * 500, [1.0] * 500, MARGIN) == 1.0
