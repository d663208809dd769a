"""Who answers whom. No model is needed."""

from __future__ import annotations

import pytest

from daemon.chat.lineup import Lineup
from trainer.targets.target import Traffic

PEOPLE = [f"person-{number}" for number in range(2000)]
TRIAL = Traffic(release="release-1", canary="release-2", share=0.2)


def _answers(traffic, who, line="main"):
    return Lineup(traffic={line: traffic}).voice(line, who).release


def test_a_person_hears_one_release_while_the_trial_lasts():
    """The same one each time that is asked."""
    assert [_answers(TRIAL, who) for who in PEOPLE] == [_answers(TRIAL, who) for who in PEOPLE]


def test_the_share_of_people_is_as_it_was_asked():
    """A fifth hears the one on trial, within what chance allows."""
    heard = [_answers(TRIAL, who) for who in PEOPLE].count("release-2")
    assert 0.16 < heard / len(PEOPLE) < 0.24


def test_a_larger_share_takes_nobody_back():
    """Who heard it at a fifth hears it at the half, too."""
    half = Traffic(release="release-1", canary="release-2", share=0.5)
    early = [who for who in PEOPLE if _answers(TRIAL, who) == "release-2"]
    assert {_answers(half, who) for who in early} == {"release-2"}


def test_another_trial_draws_anew():
    """It is not always the same people who try."""
    other = Traffic(release="release-1", canary="release-3", share=0.2)
    first = {who for who in PEOPLE if _answers(TRIAL, who) == "release-2"}
    second = {who for who in PEOPLE if _answers(other, who) == "release-3"}
    assert len(first & second) < 0.4 * len(first)


@pytest.mark.parametrize(("share", "heard"), [(0.0, "release-1"), (1.0, "release-2")])
def test_no_share_and_all_of_it_are_meant(share, heard):
    """At the ends nobody is left to chance."""
    traffic = Traffic(release="release-1", canary="release-2", share=share)
    assert {_answers(traffic, who) for who in PEOPLE} == {heard}


def test_without_a_trial_the_release_answers_and_without_one_the_base():
    """None is the untouched base, also beside a canary."""
    assert _answers(Traffic(release="release-1"), "p") == "release-1"
    assert _answers(Traffic(release=None), "p") is None
    first = Traffic(release=None, canary="release-1", share=0.5)
    assert {_answers(first, who) for who in PEOPLE} == {None, "release-1"}


def test_a_model_names_a_line():
    """`bhavana` is the main one; what is none is none."""
    lineup = Lineup(traffic={"main": TRIAL, "math": Traffic(release="release-7")})
    assert [lineup.line(name) for name in ("bhavana", "main", "math")] == ["main", "main", "math"]
    assert lineup.line("gpt-4") is None
    assert lineup.answering == {"release-1", "release-2", "release-7"}
