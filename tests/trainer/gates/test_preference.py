"""How far one reply is preferred: by a reader's losses, and by a judge in both orders."""

from __future__ import annotations

import math

import pytest

from trainer.gates.preference import PLAIN_LOSS, PLAIN_ODDS, odds, of_judge, of_reader, share
from trainer.gates.sample import Sample

PAIR = Sample(id="p", family="p", prompt="?", keeps="Yes.", breaks="No.")


def judged(right: str, a: float) -> float:
    """The log odds of a judge that gives A with this probability."""
    sample = Sample(id=right, family="p", prompt="?", options=("A", "B"), target=right)
    return odds(sample, {"A": a, "B": 1 - a})


def test_share_is_a_half_where_neither_is_preferred() -> None:
    """It rises evenly with the margin, and ends at 0 and 1."""
    assert share(0, 2) == 0.5
    assert share(1, 2) == 0.75
    assert share(-1, 2) == 0.25
    assert share(2, 2) == share(50, 2) == 1
    assert share(-2, 2) == share(-50, 2) == 0


@pytest.mark.parametrize("level", [0.5, 3.0, 9.0])
def test_reader_counts_the_difference_alone(level: float) -> None:
    """How likely both replies are, which training changes for every text, is nothing to it."""
    margin = PLAIN_LOSS / 2
    assert of_reader(PAIR, {"keeps": level, "breaks": level + margin}) == pytest.approx(0.75)
    assert of_reader(PAIR, {"keeps": level + margin, "breaks": level}) == pytest.approx(0.25)


def test_near_ties_that_turn_hardly_count() -> None:
    """A pair that turns by a hundredth of a nat moves its value as little as any other does."""
    before = of_reader(PAIR, {"keeps": 3.000, "breaks": 3.005})
    after = of_reader(PAIR, {"keeps": 3.005, "breaks": 3.000})
    assert before > 0.5 > after
    assert before - after == pytest.approx(0.01 / (2 * PLAIN_LOSS))


@pytest.mark.parametrize("a", [0.02, 0.5, 0.98])
def test_judge_that_likes_a_place_prefers_nothing(a: float) -> None:
    """A judge that gives A with the same probability whatever stands there has a half."""
    assert of_judge([judged("A", a), judged("B", a)]) == pytest.approx(0.5)


def test_judge_that_sees_the_better_one_is_told_from_its_liking_for_a_place() -> None:
    """What it sees is added to a strong liking for A, in log odds, and is found again."""
    liking, sees = 3.0, PLAIN_ODDS / 2

    def gives_a(log_odds: float) -> float:
        return 1 / (1 + math.exp(-log_odds))

    both = [judged("A", gives_a(liking + sees)), judged("B", gives_a(liking - sees))]
    assert of_judge(both) == pytest.approx(0.75)


def test_judge_that_is_certain_is_finite() -> None:
    """A probability that was rounded to 0 or to 1 is a very strong preference, not an infinite."""
    assert of_judge([judged("A", 1.0), judged("B", 0.0)]) == 1
    assert of_judge([judged("A", 0.0), judged("B", 1.0)]) == 0
    assert of_judge([judged("A", 1.0), judged("B", 1.0)]) == pytest.approx(0.5)
