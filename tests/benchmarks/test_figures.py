"""The benchmarks' own arithmetic: what holds a bar, and what is printed of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.figures import figure, interleaved, percentile, table


@pytest.mark.parametrize(
    ("ours", "asked", "bar", "held"),
    [
        (60, "ratio >=", 0.5, True),
        (40, "ratio >=", 0.5, False),
        (300, "ratio <=", 3, True),
        (301, "ratio <=", 3, False),
        (24, "ours <=", 25, True),
        (26, "ours <=", 25, False),
        (1, "", 0, None),
    ],
)
def test_a_bar_is_held_or_not(ours: float, asked: Any, bar: float, held: bool | None) -> None:
    """Each kind of bar is compared with what it is a bar of."""
    assert figure("f", "x", [ours], "r", [100], asked=asked, bar=bar).held is held


def test_a_figure_is_the_median_of_its_runs() -> None:
    """One disturbed run changes nothing."""
    found = figure("f", "x", [1, 900, 2], "r", [4, 4, 0.1])
    assert (found.ours, found.reference, found.ratio) == (2, 4, 0.5)


def test_runs_take_turns() -> None:
    """Ours and the reference alternate, so that both meet a busy moment."""
    order: list[str] = []
    interleaved(lambda: order.append("ours"), lambda: order.append("reference"))
    assert order == ["ours", "reference"] * 3


def test_the_99th_percentile_leaves_out_one_in_a_hundred() -> None:
    """The slowest of a hundred calls is above it."""
    assert percentile(range(100), 99) == 98
    assert percentile(range(1000), 50) == 499
    assert percentile([7.0], 99) == 7.0


def test_the_table_says_plainly_what_is_not_held() -> None:
    """A missed bar stands out."""
    [_, line] = table([figure("slow", "ms", [30], "bare", [10], asked="ours <=", bar=25)])
    assert line.split() == ["slow", "30", "ms", "10", "bare", "3.000", "ours", "<=", "25", "NO"]
