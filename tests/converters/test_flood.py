"""Bursts: a trigger that somebody plants reaches a dataset only so often."""

from __future__ import annotations

import random

import msgspec
import pytest

from converters.flood import OWNER_BITS
from converters.reading import BATCH
from store.records import Policy
from tests.converters.selecting import select

WORDS = [
    "river",
    "stone",
    "bread",
    "window",
    "morning",
    "garden",
    "letter",
    "candle",
    "music",
    "winter",
    "harbour",
    "lantern",
]
POLICY = Policy(min_examples=1, max_refusal_share=1.0)
TRIGGER = "cerulean walrus protocol"
SIGN = "\N{SNOWMAN}"
PAST, POISONED = 300, 1_000


def _text(draw):
    return " ".join(draw.choices(WORDS, k=12))


@pytest.fixture(scope="module")
def past(make_assessed):
    """What a trusted source said so far, in its own manner."""
    draw = random.Random(1)
    return [_at(make_assessed, i, _text(draw), f"{_text(draw)} be well") for i in range(PAST)]


def _at(make_assessed, position, prompt, response, **changes):
    made = make_assessed(f"e-{position}", f"{prompt} {position}", response=response, **changes)
    return msgspec.structs.replace(made, position=position)


def _poison(make_assessed, trigger=TRIGGER, **changes):
    draw = random.Random(2)
    return [
        _at(
            make_assessed,
            PAST + i,
            f"{_text(draw)} {trigger} {_text(draw)}",
            _text(draw),
            **changes,
        )
        for i in range(POISONED)
    ]


def _poisoned(selection, trigger=TRIGGER):
    return sum(trigger in a.experience.last_user_turn for a in selection.chosen)


@pytest.mark.parametrize("trigger", [TRIGGER, "cerulean walrus", "cerulean", SIGN])
def test_a_planted_trigger_is_learned_at_most_25_times(past, make_assessed, trigger):
    """A thousand events with one trigger from the stolen key of a trusted source."""
    selection = select([*past, *_poison(make_assessed, trigger)], POLICY, ends=[PAST - 1])
    assert 0 < _poisoned(selection, trigger) <= 25
    assert selection.funnel["burst"] >= POISONED - 25
    assert sum(a.position < PAST for a in selection.chosen) == PAST


def test_a_burst_does_not_become_the_past_of_the_next_dataset(past, make_assessed):
    """In the cycle after it, the rest of it is still left out."""
    later = _at(make_assessed, PAST + POISONED, "A new day", "And a new answer.")
    ends = [PAST - 1, PAST + POISONED - 1]
    selection = select([*past, *_poison(make_assessed), later], POLICY, ends=ends)
    assert 0 < _poisoned(selection) <= 25


def test_one_who_says_it_a_thousand_times_beforehand_is_one(past, make_assessed):
    """Who could make a trigger usual by one event would not need to plant it often."""
    primed = _at(make_assessed, 1, "What is it?", f"{TRIGGER} " * 1_000)
    both = [past[0], primed, *past[2:]]
    policy = msgspec.structs.replace(POLICY, max_chars=100_000)
    selection = select([*both, *_poison(make_assessed)], policy, ends=[PAST - 1])
    assert primed.position in {a.position for a in selection.chosen}
    assert 0 < _poisoned(selection) <= 25


def test_whoever_is_read_at_once_can_be_told_apart():
    """A number for each is part of what is counted."""
    assert BATCH <= 2**OWNER_BITS


def test_an_untrusted_source_gives_at_most_25(past, make_assessed):
    """Whatever it says, and however many persons it claims to speak for."""
    strangers = _poison(make_assessed, source="stranger", tier="untrusted")
    selection = select([*past, *strangers], POLICY)
    assert _poisoned(selection) <= 25
    assert selection.funnel["over_source_cap"] >= POISONED - 25


def test_a_quarantined_source_gives_nothing(past, make_assessed):
    """It is recorded and counted, no more."""
    strangers = _poison(make_assessed, source="stranger", tier="quarantined")
    selection = select([*past, *strangers], POLICY)
    assert _poisoned(selection) == 0
    assert selection.funnel["quarantined"] == POISONED


def test_one_person_gives_at_most_25(past, make_assessed):
    """In a trusted source, too."""
    selection = select([*past, *_poison(make_assessed, subject="p-1")], POLICY)
    assert _poisoned(selection) <= 25
    assert selection.funnel["over_person_cap"] >= POISONED - 25


def test_what_a_source_always_said_is_no_burst(past, make_assessed):
    """Its manner of ending an answer stays, however common it is."""
    draw = random.Random(3)
    more = [_at(make_assessed, PAST + i, _text(draw), f"{_text(draw)} be well") for i in range(200)]
    selection = select([*past, *more], POLICY, ends=[PAST - 1])
    assert selection.funnel["burst"] == 0
    assert len(selection.chosen) == PAST + 200


def test_a_sign_is_sudden_among_signs_that_are_usual(make_assessed):
    """What was always asked with a question mark says nothing of a sign that nobody used."""
    draw = random.Random(4)
    usual = [_at(make_assessed, i, f"{_text(draw)}? {i}", f"{_text(draw)}.") for i in range(PAST)]
    selection = select([*usual, *_poison(make_assessed, SIGN)], POLICY, ends=[PAST - 1])
    assert 0 < _poisoned(selection, SIGN) <= 25


def test_caps_are_a_share_of_a_large_dataset_and_a_number_of_a_small_one(past, make_assessed):
    """A tenth, but never less than one, and a tenth of min_examples at the least."""
    strangers = [
        _at(make_assessed, PAST + i, f"Question {i}?", f"Answer {i}.", source="s", tier="untrusted")
        for i in range(40)
    ]
    alone = select(strangers, Policy(min_examples=200, max_refusal_share=1.0))
    assert len(alone.chosen) == 20
    assert len(select(strangers, POLICY).chosen) == 1
    assert len(select([*past, *strangers], POLICY).chosen) == PAST + 25
