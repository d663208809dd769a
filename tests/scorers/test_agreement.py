"""Agreement of two raters, against figures worked out elsewhere."""

from __future__ import annotations

import pytest
from sklearn.metrics import cohen_kappa_score

from scorers.agreement import agreement


def _pairs(both, first_only, second_only, neither):
    return (
        [(True, True)] * both
        + [(True, False)] * first_only
        + [(False, True)] * second_only
        + [(False, False)] * neither
    )


def test_counts_and_share():
    """The table, and the share on its diagonal with the exact interval of 35 of 50."""
    found = agreement(_pairs(20, 5, 10, 15))
    assert (found.n, found.both, found.first_only, found.second_only, found.neither) == (
        *(50, 20, 5, 10, 15),
    )
    assert found.share == pytest.approx(0.7)
    assert (found.lower, found.upper) == (
        pytest.approx(0.5539, abs=1e-4),
        pytest.approx(0.8214, abs=1e-4),
    )
    assert found.kappa == pytest.approx(0.4)  # the textbook's example


@pytest.mark.parametrize("table", [(20, 5, 10, 15), (1, 0, 0, 9), (0, 3, 4, 0), (2, 7, 1, 90)])
def test_kappa_is_the_usual_one(table):
    """As scikit-learn has it."""
    pairs = _pairs(*table)
    expected = cohen_kappa_score(*zip(*pairs, strict=True))
    assert agreement(pairs).kappa == pytest.approx(expected)


def test_where_nothing_can_be_said_nothing_is():
    """Of no answers at all, and kappa of raters who never differ in one word."""
    nothing = agreement([])
    assert (nothing.n, nothing.share, nothing.lower, nothing.kappa) == (0, None, None, None)
    same = agreement(_pairs(0, 0, 0, 8))
    assert (same.share, same.upper, same.kappa) == (1.0, 1.0, None)
    assert same.lower == pytest.approx(0.6306, abs=1e-4)
