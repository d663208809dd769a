"""What the judge finds, by a stand-in that scores as the test says."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from scorers.forms import PARTS
from scorers.judge import INJECTION, Judge
from store.records import HARMS, PRINCIPLES
from tests.scorers.judge.asking import (
    CRUEL,
    QUESTION,
    MakeExperience,
    by_dimension,
)
from tests.scorers.judge.stand_in import StandIn
from tests.scorers.test_contract import ODD


@pytest.mark.parametrize("protocol", ["openai", "ollama"])
def test_scores_are_means_over_the_score_token(
    judge: Callable[..., Judge], experience: MakeExperience, protocol: str
) -> None:
    """Harm in 0..1, principles in 0..10, each with a quotation that is found in the response."""
    [found] = judge(protocol=protocol).score([experience(QUESTION, CRUEL)])
    harsh, karuna = by_dimension(found)["harshness"], by_dimension(found)["karuna"]
    assert harsh.value == pytest.approx(6 / 9, abs=1e-3)  # 5, 6 and 7 with .1, .8 and .1
    assert karuna.value == pytest.approx(30 / 9, abs=1e-3)
    assert harsh.confidence == pytest.approx(1 - math.sqrt(0.2) / 4.5, abs=1e-3)
    [span] = harsh.evidence
    assert CRUEL[span.start : span.end] == "stupid"


def test_without_log_probabilities_samples_are_drawn(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn
) -> None:
    """The greedy answer and samples of its own seed each; mean and deviation are theirs."""
    stand_in.log_probabilities = False
    one = judge(dimensions=("harshness",), samples=5, concurrency=1)
    stand_in.fault = lambda number, _: "not assessable" if number == 5 else None
    [found] = one.score([experience(QUESTION, CRUEL)])
    asked = [(request["temperature"], request["seed"]) for request in stand_in.requests]
    assert [temperature for temperature, _ in asked] == [0.0, 0.7, 0.7, 0.7, 0.7]
    assert len({seed for _, seed in asked}) == 5
    assert by_dimension(found)["harshness"].value == pytest.approx(6 / 9, abs=1e-3)
    # Four that agree, and one imagined half the scale away.
    assert by_dimension(found)["harshness"].confidence == pytest.approx(
        1 - math.sqrt(1 / 5), abs=1e-3
    )


def test_a_quotation_that_is_not_there_halves_the_confidence(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn
) -> None:
    """What the judge claims to have read must stand in the response."""
    item = experience(QUESTION, CRUEL)
    whole = by_dimension(judge().score([item])[0])["harshness"]
    stand_in.fault = lambda *_: "a false quote"
    half = by_dimension(judge(most_characters=7_000).score([item])[0])["harshness"]
    assert half.value == whole.value
    assert half.confidence == pytest.approx(whole.confidence / 2, abs=1e-3)
    assert half.evidence == ()


def test_a_quotation_is_found_where_it_stood_before_cleaning(
    judge: Callable[..., Judge], experience: MakeExperience
) -> None:
    """Offsets are those of the response as it was received, invisible characters included."""
    response = "**Well\u200b**, <|im_end|>you are st\u200bupid."
    [found] = judge().score([experience(QUESTION, response)])
    [span] = by_dimension(found)["harshness"].evidence
    assert response[span.start : span.end] == "st\u200bupid"


def test_the_curation_score_is_the_sum_of_its_parts(
    judge: Callable[..., Judge], experience: MakeExperience
) -> None:
    """0 to 40, and each part by name."""
    [found] = judge(form="curation").score([experience(QUESTION, CRUEL)])
    values = {name: finding.value for name, finding in by_dimension(found).items()}
    assert values["curation.total"] == 12.0
    assert {values[f"curation.{part}"] for part in PARTS} == {3.0}


def test_the_reward_evaluation_is_read_line_by_line(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn
) -> None:
    """Six lines, red flags, overall; one line too few and nothing is believed."""
    [found] = judge(form="reward").score([experience(QUESTION, CRUEL)])
    values = {name: finding.value for name, finding in by_dimension(found).items()}
    assert values["reward.consequence_awareness"] == values["reward.overall"] == 3.0
    assert values["reward.red_flags"] == 1.0
    stand_in.fault = lambda *_: "prose"
    [none] = judge(form="reward", most_characters=7_000).score([experience(QUESTION, CRUEL)])
    assert {f.value for f in none if f.dimension != INJECTION} == {None}


def test_answers_every_odd_text_in_range_and_the_same_again(
    judge: Callable[..., Judge], experience: MakeExperience
) -> None:
    """The contract of every scorer, with NULs, other scripts, nothing, and a megabyte."""
    odd = [experience(u, r, name=f"e-{i}") for i, (u, r) in enumerate(ODD.values())]
    odd.append(experience(QUESTION, "x" * 500_000 + "\0" + "ا" * 500_000 + " stupid", name="big"))
    odd.append(experience("\udcff", "lone \ud800 surrogates", name="broken"))
    one = judge(dimensions=(*HARMS, *PRINCIPLES), concurrency=8)
    found = one.score(odd)
    assert len(found) == len(odd)
    for item, findings in zip(odd, found, strict=True):
        for finding in findings:
            most = 10.0 if finding.dimension in PRINCIPLES else 1.0
            assert finding.value is None or 0 <= finding.value <= most
            assert finding.value is not None or finding.reason
            assert finding.version == one.version
            for span in finding.evidence:
                assert 0 <= span.start <= span.end <= len(item.response)
    assert one.score(odd) == found
    assert [one.score([item])[0] for item in reversed(odd)] == list(reversed(found))


@pytest.mark.parametrize(
    "response", ["", " \n", "?!…", "❤️", "…\u200b", QUESTION, f"  {QUESTION.upper()}"]
)
def test_nobody_is_asked_about_nothing(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn, response: str
) -> None:
    """Empty, without words, or an echo: an abstention without a call."""
    [found] = judge().score([experience(QUESTION, response)])
    assert {f.value for f in found if f.dimension != INJECTION} == {None}
    assert stand_in.requests == []


def test_a_long_text_is_shown_by_head_and_tail(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn
) -> None:
    """A cruel end is not hidden by a long beginning."""
    [found] = judge(most_characters=300).score([experience(QUESTION, "Well. " * 5_000 + CRUEL)])
    assert by_dimension(found)["harshness"].value == pytest.approx(6 / 9, abs=1e-3)
    assert max(map(len, stand_in.asked)) < 4_000
