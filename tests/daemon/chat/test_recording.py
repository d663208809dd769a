"""What becomes of an exchange: kept through the same door as everything, or said not to be."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from daemon.chat.envelope import Kept
from daemon.chat.recording import Recorder
from daemon.chat.request import Asked, Wishes
from daemon.chat.settings import ServingSettings
from daemon.ingest import House
from daemon.keyring import Caller, KeyRing
from daemon.limits import Limits, LimitSettings
from daemon.problems import Problem
from daemon.redaction import Redactor
from store import keys
from store.records import Experience, Message, now
from store.redaction import RedactionSettings, SourceRules

RECORDS = ServingSettings(record=True, training_consent="asked")
ASKED = Asked(
    model="bhavana", messages=(Message(role="user", content="Hello"),), most_tokens=5,
    temperature=0, top_p=1, presence_penalty=0, frequency_penalty=0, stop=(), seed=None,
    stream=False, with_usage=False,
)  # fmt: skip
AGREED = Wishes(agreed=True, policy="2026-01", subject="s-1")


def _nobody(_):
    raise AssertionError("nobody is to be asked")


@pytest.fixture
def caller(store):
    """Who holds a key of the source web."""
    key, _ = keys.create(store, name="t", scopes=("chat",), source="web", actor="t")
    return Caller(key)


@pytest.fixture
def open_house(store):
    """Opens the house over the store, with these rules of redaction and this judge."""

    def opened(redaction=None, judge=_nobody):
        redactor = Redactor(redaction or RedactionSettings())
        return House(store, KeyRing(store), Limits(LimitSettings()), redactor, judge)

    return opened


def _keep(house, caller, said="Hi", finish="stop", wishes=AGREED, settings=RECORDS, asked=ASKED):
    async def keep():
        recorder = Recorder(house, settings, caller, wishes)
        draft = recorder.draft("chatcmpl-1", now(), asked)
        return await recorder.keep(draft, "release-1", said, finish)

    return asyncio.run(keep())


def _recorded(store):
    kept = store.follow(types=["experience.recorded"])
    return [msgspec.json.decode(e.body, type=Experience) for e in kept]


def test_it_is_kept_with_the_consent_that_was_given(store, open_house, caller):
    """By the release that spoke, for the source of the key."""
    assert _keep(open_house(), caller) == Kept(recorded=True, training=True)
    [kept] = _recorded(store)
    assert (kept.model, kept.source, kept.response) == ("release-1", "web", "Hi")
    assert (kept.consent.training, kept.consent.policy) == (True, "2026-01")


@pytest.mark.parametrize(
    ("settings", "wishes", "finish"),
    [
        (RECORDS, Wishes(), "stop"),
        (ServingSettings(record=True), AGREED, "stop"),
        (RECORDS, AGREED, "length"),
        (RECORDS, AGREED, None),
    ],
    ids=["nobody agreed", "nobody is to be asked", "cut by its length", "hung up"],
)
def test_it_is_kept_and_nothing_to_learn_from(store, open_house, caller, settings, wishes, finish):
    """Consent is asked, never assumed; half an answer teaches to stop in the middle."""
    kept = _keep(open_house(), caller, settings=settings, wishes=wishes, finish=finish)
    assert kept == Kept(recorded=True, training=False)
    [experience] = _recorded(store)
    assert not experience.consent.training
    assert experience.metadata == {"finished": finish == "stop"}


@pytest.mark.parametrize(
    ("settings", "wishes"),
    [(ServingSettings(), AGREED), (RECORDS, Wishes(unrecorded=True))],
    ids=["by default", "by wish"],
)
def test_nothing_is_kept_that_is_not_to_be(store, open_house, caller, settings, wishes):
    """The default is no, and a client's no counts."""
    kept = _keep(open_house(), caller, settings=settings, wishes=wishes)
    assert kept == Kept(recorded=False)
    assert _recorded(store) == []


@pytest.mark.parametrize("said", ["", "x" * 65_537, "a" + "\N{COMBINING ACUTE ACCENT}" * 40])
def test_what_is_no_experience_is_not_kept_and_breaks_nothing(store, open_house, caller, said):
    """An empty answer, one too long, and one that no door takes: the answer was given already."""
    assert _keep(open_house(), caller, said=said) == Kept(recorded=False)
    assert _recorded(store) == []


def test_a_store_that_takes_nothing_is_told_of(store, open_house, caller):
    """The client hears that it was not kept."""
    house = open_house()
    store.close()
    assert _keep(house, caller) == Kept(recorded=False)


def test_secrets_are_redacted(store, open_house, caller):
    """In what was asked and in what was answered."""
    asked = msgspec.structs.replace(
        ASKED, messages=(Message(role="user", content="I am ada@example.org"),)
    )
    _keep(open_house(), caller, said="Write to bob@example.org", asked=asked)
    assert "example.org" not in str(_recorded(store))


def test_no_words_of_a_source_that_withholds_them_are_kept(
    store, open_house, caller, make_assessment
):
    """They are judged before they are dropped, as at the ingest door."""
    rules = RedactionSettings(sources={"web": SourceRules(content="withhold")})
    heard = []

    def judge(some):
        heard.extend(some)
        return [make_assessment(e.id) for e in some]

    assert _keep(open_house(rules, judge=judge), caller).recorded
    assert [e.response for e in heard] == ["Hi"]
    assert "Hello" not in str(_recorded(store))
    assert len(list(store.follow(types=["experience.assessed"]))) == 1


def test_a_key_of_no_source_is_refused_before_anything_is_said(store, open_house):
    """Whose words would it be?"""
    key, _ = keys.create(store, name="t", scopes=("admin",), actor="t")
    with pytest.raises(Problem) as refused:
        _keep(open_house(), Caller(key))
    assert refused.value.code == "no_source"
    kept = _keep(open_house(), Caller(key), settings=ServingSettings())
    assert kept == Kept(recorded=False)
