"""What goes wrong at the endpoint: asked again, abstained from, or told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from daemon.settings import load as load_settings
from scorers.judge import INJECTION, Judge
from scorers.panel import combine
from scorers.settings import PanelSettings
from store.errors import Misconfigured, Unavailable
from tests.scorers.judge.asking import CRUEL, KEY, KIND, QUESTION, MakeExperience, by_dimension
from tests.scorers.judge.stand_in import StandIn

UNREADABLE = (
    "prose",
    "wrong JSON",
    "out of range",
    "a fraction",
    "twice",
    "reasoning",
    "NULs",
    "nothing",
    "cut",
    "not assessable",
)


@pytest.mark.parametrize("protocol", ["openai", "ollama"])
@pytest.mark.parametrize("fault", UNREADABLE)
def test_what_cannot_be_read_is_an_abstention(
    judge: Callable[..., Judge],
    experience: MakeExperience,
    stand_in: StandIn,
    fault: str,
    protocol: str,
) -> None:
    """Never a default score; the reason repeats no words, and the answer goes to a person."""
    stand_in.fault = lambda *_: fault
    item = experience(QUESTION, CRUEL)
    [found] = judge(protocol=protocol).score([item])
    for finding in found:
        if finding.dimension != INJECTION:
            assert finding.value is None
            assert finding.confidence == 0.0
            assert finding.reason.startswith("The judge")
    assert "silent:judge" in combine(item, found, PanelSettings(), "panel").doubts


PASSING = ("busy", "too many", "broken", "reset", "half", "half chunked", "a stranger", "huge")


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_asked_again(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn, fault: str
) -> None:
    """Twice out of order, then an answer: nothing of it is seen in the findings."""
    stand_in.fault = lambda number, _: fault if number <= 2 else None
    [found] = judge(dimensions=("harshness",)).score([experience(QUESTION, CRUEL)])
    assert by_dimension(found)["harshness"].value == pytest.approx(6 / 9, abs=1e-3)
    assert len(stand_in.requests) == 3


@pytest.mark.parametrize("fault", [*PASSING, "hang", "trickle"])
def test_an_outage_is_not_an_abstention(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn, fault: str
) -> None:
    """An endpoint that answers nobody stops the batch; afterwards all of it is judged."""
    stand_in.fault = lambda *_: fault
    short = {"timeout_seconds": 0.3, "retries": 1} if fault in ("hang", "trickle") else {}
    with pytest.raises(Unavailable, match="The judge's endpoint"):
        judge(**short).score([experience(QUESTION, CRUEL)])
    stand_in.fault = lambda *_: None
    [found] = judge().score([experience(QUESTION, CRUEL)])
    assert by_dimension(found)["harshness"].value is not None


@pytest.mark.parametrize("fault", ["hang", "trickle", "broken", "bad", "half", "huge"])
def test_a_text_that_the_endpoint_cannot_manage_does_not_stop_the_others(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn, fault: str
) -> None:
    """When it answers about something harmless, the text is at fault, and alone abstains."""
    stand_in.fault = lambda _, said: fault if "poison" in said else None
    one = judge(timeout_seconds=2.0, retries=1, dimensions=("harshness",))
    found = one.score(
        [
            experience(QUESTION, KIND, name="a"),
            experience(QUESTION, "This is poison.", name="b"),
            experience(QUESTION, CRUEL, name="c"),
        ]
    )
    values = [by_dimension(findings)["harshness"] for findings in found]
    assert [value.value is None for value in values] == [False, True, False]
    assert values[1].reason.startswith("The judge's endpoint answers, but not about this text: ")


def test_retry_after_is_heeded(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn
) -> None:
    """Who asks for more patience than there is, is not waited for."""
    stand_in.retry_after = "86400"
    stand_in.fault = lambda *_: "too many"
    with pytest.raises(Unavailable, match="HTTP 429"):
        judge(concurrency=1).score([experience(QUESTION, CRUEL)])
    assert len(stand_in.requests) == 1
    stand_in.retry_after = "Fri, 01 Jan 2010 00:00:00 GMT"
    stand_in.fault = lambda number, _: "busy" if number == 2 else None
    [found] = judge().score([experience(QUESTION, CRUEL)])
    assert by_dimension(found)["harshness"].value is not None


@pytest.mark.parametrize(
    ("changes", "said", "step"),
    [
        ({"api_key": KEY + "x"}, "Incorrect API key", "API_KEY_FILE"),
        ({"model": "judge-2"}, "'judge-2' not found", "panel.judge.model"),
        ({"url": "{url}/v2"}, "404", "panel.judge.url"),
    ],
)
def test_a_wrong_setting_is_told_in_the_servers_words(
    judge: Callable[..., Judge],
    experience: MakeExperience,
    stand_in: StandIn,
    changes: dict[str, str],
    said: str,
    step: str,
) -> None:
    """A wrong key, model or address stops the work with what to do, and without the key."""
    stand_in.key = KEY
    given = {"api_key": KEY} | {k: v.format(url=stand_in.url) for k, v in changes.items()}
    with pytest.raises(Misconfigured) as raised:
        judge(**given).score([experience(QUESTION, CRUEL)])
    assert said in str(raised.value)
    assert step in str(raised.value)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://no.such.host.invalid/v1"])
def test_nobody_there_is_an_outage(
    judge: Callable[..., Judge], experience: MakeExperience, url: str
) -> None:
    """Not a setting that is known to be wrong: it may come back."""
    with pytest.raises(Unavailable, match=r"cannot be reached.*panel\.judge\.url"):
        judge(url=url, retries=0).score([experience(QUESTION, CRUEL)])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": ""}, "panel.judge.url"),
        ({"url": "ftp://host"}, "panel.judge.url"),
        ({"url": "http://me:secret@host/v1"}, "password"),
        ({"url": "http://host:nowhere/v1"}, "panel.judge.url"),
        ({"model": ""}, "panel.judge.model"),
        ({"dimensions": ("kindness",)}, "kindness"),
        ({"dimensions": ()}, "panel.judge.dimensions"),
        ({"protocol": "ollama", "output": "grammar"}, "grammar"),
        ({"api_key": "schlüssel\n"}, "api_key"),
    ],
)
def test_a_judge_that_is_not_set_up_says_what_is_missing(
    judge: Callable[..., Judge], changes: dict[str, Any], said: str
) -> None:
    """Before anything is asked."""
    with pytest.raises(Misconfigured) as raised:
        judge(**changes)
    assert said in str(raised.value)


def test_the_configuration_tells_it_with_the_other_problems() -> None:
    """And a judge that is not at work needs no settings."""
    asked = {"BHAVANA_PANEL__SCORERS": '["judge"]', "BHAVANA_PANEL__GOOD": "77"}
    with pytest.raises(Misconfigured, match=r"(?s)panel\.good.*panel\.judge\.url.*judge\.model"):
        load_settings(None, asked)
    assert load_settings(None, {}).panel.judge.url == ""
