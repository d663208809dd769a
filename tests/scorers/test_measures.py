"""The measures that alarms and figures stand on."""

from __future__ import annotations

import numpy as np
import pytest

from scorers import measures


def test_calibration_error_of_what_is_known() -> None:
    """None where what is said is so, half where one says a half and it is always so."""
    labels = np.array([0.0, 1.0, 1.0, 1.0])
    assert measures.calibration_error(np.array([0.75] * 4), labels) == pytest.approx(0.0)
    assert measures.calibration_error(np.array([0.5] * 4), np.ones(4)) == pytest.approx(0.5)
    assert measures.calibration_error(labels, labels) == pytest.approx(0.0)


def test_the_same_traffic_is_stable_and_other_traffic_is_not() -> None:
    """Two draws of one distribution stay below the bar of 0.25; another one is above it."""
    random = np.random.default_rng(1)
    before, again = random.beta(1, 9, 500), random.beta(1, 9, 500)
    assert measures.population_stability(before, again) < 0.15
    assert measures.population_stability(before, random.beta(2, 5, 500)) > 0.25


def test_stability_bears_values_that_are_all_alike() -> None:
    """As where every answer is harmless; a new value is seen."""
    alike = np.full(500, 0.02)
    assert measures.population_stability(alike, alike) == pytest.approx(0.0)
    assert measures.population_stability(alike, np.full(500, 0.9)) > 0.25
