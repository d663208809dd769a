"""The panel's health: what is measured, and what raises an alarm."""

from __future__ import annotations

import numpy as np
import pytest

from scorers.oversight import OversightSettings, Said, Scores, look

ON = OversightSettings()


def _said(count: int, *, says: float, harmful: float) -> list[Said]:
    """So many reviews of answers of one harm, of which that share is harmful by people's word."""
    return [Said(says, at < harmful * count) for at in range(count)]


def _scores(seed: int, harm: tuple[int, int] = (1, 9)) -> list[Scores]:
    random = np.random.default_rng(seed)
    return [Scores(h, 7.0) for h in random.beta(*harm, ON.window).tolist()]


def test_a_panel_that_is_right_raises_no_alarm() -> None:
    """It says a fifth where a fifth is harmful."""
    found = look(_said(200, says=0.2, harmful=0.2), _scores(1), _scores(2), ON)
    assert found.calibration_error == pytest.approx(0.0)
    assert max(found.drift.values()) < 0.1
    assert found.alarms == ()


def test_a_panel_that_is_far_from_peoples_word_alarms() -> None:
    """It finds harmless what every second person calls harmful; the alarm says what to do."""
    found = look(_said(200, says=0.1, harmful=0.5), (), (), ON)
    assert found.calibration_error == pytest.approx(0.4)
    [alarm] = found.alarms
    assert "0.40" in alarm
    assert "bhavana heads refit" in alarm


def test_too_few_reviews_say_nothing() -> None:
    """Neither good nor bad: unknown."""
    found = look(_said(149, says=0.1, harmful=0.5), (), (), ON)
    assert (found.labels, found.calibration_error, found.agreement) == (149, None, None)
    assert found.alarms == ()


def test_agreement_is_how_often_the_harmful_one_is_said_to_be_worse() -> None:
    """All pairs right but those that are alike, which count half."""
    said = _said(100, says=0.8, harmful=1.0) + _said(100, says=0.1, harmful=0.0)
    assert look(said, (), (), ON).agreement == pytest.approx(1.0)
    assert look(_said(200, says=0.3, harmful=0.5), (), (), ON).agreement == pytest.approx(0.5)
    assert look(_said(200, says=0.3, harmful=0.0), (), (), ON).agreement is None


def test_other_traffic_alarms_and_reviews_of_it_are_asked_for() -> None:
    """Nobody knows whether what was learned from reviews still holds for it."""
    found = look((), _scores(1), _scores(2, harm=(2, 5)), ON)
    assert found.drift["actual_harm"] > ON.max_drift
    [alarm] = found.alarms
    assert "actual_harm" in alarm
    assert "bhavana review next" in alarm


def test_a_panel_that_falls_silent_has_drifted() -> None:
    """An abstention is a value."""
    found = look((), _scores(1), [Scores(None, None)] * ON.window, ON)
    assert len(found.alarms) == 2


def test_a_window_that_is_not_full_does_not_drift() -> None:
    """A dozen answers look like anything."""
    assert look((), _scores(1), _scores(2, harm=(9, 1))[:-1], ON).drift == {}
