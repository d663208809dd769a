"""Which checkpoint becomes the adapter."""

from __future__ import annotations

import pytest

from trainer.choice import Measures, best, chosen, is_over, measured


def at(
    step: int, ethics: float, capability: float | None = None, loss: float | None = None
) -> Measures:
    """What was measured at a step."""
    return Measures(
        step=step, ethics_compliance=ethics, capability=capability, validation_loss=loss
    )


@pytest.mark.parametrize(
    ("found", "step", "reason"),
    [
        (
            [at(10, 0.8, 0.1, 3.0), at(20, 0.6, 0.9, 1.0)],
            10,
            "the highest ethics compliance (0.80)",
        ),
        (
            [at(10, 0.8, 0.5, 3.0), at(20, 0.8, 0.4, 1.0), at(30, 0.5, 0.9, 0.5)],
            10,
            "of 2 within two probes of the highest ethics compliance (0.80) the most capable",
        ),
        (
            [at(10, 0.8, 0.5, 1.0), at(20, 0.8, 0.5, 2.0)],
            10,
            "of 2 within two probes of the highest ethics compliance (0.80) the lowest perplexity",
        ),
        (
            [at(10, 0.8, None, 2.0), at(20, 0.8, None, 2.0)],
            20,
            "of 2 within two probes of the highest ethics compliance (0.80) the last",
        ),
        (
            [at(10, 0.8), at(20, 0.8), at(30, 0.6)],
            20,
            "of 2 within two probes of the highest ethics",
        ),
        ([at(10, 0.1)], 10, "the only one"),
    ],
)
def test_ethics_first_then_capability_then_perplexity(
    found: list[Measures], step: int, reason: str
) -> None:
    """In this order, of equals the later one; and the reason names what decided."""
    choice = chosen(found)
    assert (choice.step, choice.of) == (step, len(found))
    assert choice.reason.startswith(reason)


def test_two_probes_decide_nothing() -> None:
    """Of sixteen they are chance; three are not, and no one loses two at each step."""
    assert best([at(10, 12 / 16, loss=3.2), at(20, 10 / 16, loss=3.1)]).step == 20
    assert best([at(10, 12 / 16, loss=3.2), at(20, 9 / 16, loss=3.1)]).step == 10
    slipping = [at(10, 12 / 16, loss=3.2), at(20, 10 / 16, loss=3.1), at(30, 8 / 16, loss=3.0)]
    assert best(slipping).step == 20


def test_who_lost_does_not_win_later() -> None:
    """Its files are gone: the one that comes in its place is better than both or waits."""
    found = [at(10, 10 / 16, loss=3.0), at(20, 8 / 16, loss=2.0), at(30, 12 / 16, loss=4.0)]
    assert [best(found[:n]).step for n in (1, 2, 3)] == [10, 20, 30]


def test_of_preferences_the_lowest_loss_decides() -> None:
    """In place of the perplexity."""
    found = [
        Measures(step=step, ethics_compliance=0.8, preference_loss=loss)
        for step, loss in ((10, 0.6), (20, 0.5), (30, 0.7))
    ]
    choice = chosen(found)
    assert choice.step == 20
    assert choice.reason.endswith("the lowest loss on held-out preferences (0.500)")


def test_what_was_not_measured_is_not_best() -> None:
    """A checkpoint without a validation loss does not win by it."""
    assert best([at(10, 0.5, loss=9.0), at(20, 0.5)]).step == 10


def test_measures_are_read_from_the_trainings_log() -> None:
    """Of the checkpoints only: neither the base's nor the steps' losses."""
    log = [
        {"step": 0, "ethics_compliance": 0.5},
        {"step": 1, "loss": 3.0},
        {"step": 4, "ethics_compliance": 0.75, "validation_loss": 2.0},
        {"step": 8, "ethics_compliance": 0.75, "capability": 0.5},
    ]
    assert measured(log) == [at(4, 0.75, loss=2.0), at(8, 0.75, capability=0.5)]


def test_patience_is_counted_in_checkpoints_since_the_best() -> None:
    """Never without patience; an equal one is later, and so better."""
    falling = [at(10, 0.8), at(20, 0.6), at(30, 0.6)]
    assert is_over(falling, 2)
    assert not is_over(falling, 3)
    assert not is_over(falling, 0)
    assert not is_over([at(10, 0.8), at(20, 0.8), at(30, 0.8)], 1)
    assert not is_over([], 1)
