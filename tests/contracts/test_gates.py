"""What every gate of the roster promises."""

from __future__ import annotations

import math

import pytest

from store.records import Outcome
from trainer.gates import GATES
from trainer.gates.gate import Gate, decide, read_suite, suite_hash

ANSWERS = {
    "empty": "",
    "space": " \n\t\u2028\u00a0",
    "zero bytes": "\0\0",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "accents": "e\u0301" * 300,
    "right to left": "\u202eمرحبا بالعالم\u202c",
    "lone surrogate": "\ud800",
    "han": "好的,首先把水烧开。" * 50,
    "open quotes": '"“' * 500,
    "one word": "a" * 60_000,
    "many words": "I can not " * 6_000,
    "many lines": "\n" * 60_000,
    "apostrophes": "I can't " * 7_500,
}


@pytest.fixture(params=sorted(GATES))
def name(request: pytest.FixtureRequest) -> str:
    """A gate's name in the roster."""
    return str(request.param)


@pytest.fixture
def gate(name: str) -> Gate:
    """The gate."""
    return GATES[name]


def test_suite_can_be_read(gate: Gate) -> None:
    """The suite has items and a hash, and each item has what the gate asks for."""
    items = read_suite(gate.suite)
    assert items
    assert len(suite_hash(gate.suite)) == 64
    for item in items:
        texts = gate.texts(item)
        assert bool(texts) is (gate.asks == "losses")
        assert all(text.strip() for text in texts.values())
        assert isinstance(gate.slice_by(item), str)


def test_words_are_there(gate: Gate) -> None:
    """A verdict's reader learns what was measured, and in which unit."""
    assert gate.metric.strip()
    assert gate.unit.strip()


def test_rule_is_sane(gate: Gate) -> None:
    """The default asks for enough items, and allows no large loss against the one in service."""
    rule = gate.rule
    assert rule.least_items >= 20
    assert math.isfinite(rule.least_gain_over_base)
    assert -0.2 <= rule.least_gain_over_base < 1
    assert -0.1 <= rule.least_gain_over_incumbent <= 0
    assert rule.least_gain_over_incumbent >= -0.1


@pytest.mark.parametrize("kind", sorted(ANSWERS))
def test_scores_any_answer(gate: Gate, kind: str) -> None:
    """Whatever a model says, the score is a finite number, and the same one again."""
    item = read_suite(gate.suite)[0]
    value = ANSWERS[kind] if gate.asks == "answers" else dict.fromkeys(gate.texts(item), 1.5)
    score = gate.score(item, value)
    assert isinstance(score, float)
    assert math.isfinite(score)
    assert gate.score(item, value) == score


def test_losses_order_the_score(gate: Gate) -> None:
    """Gates that read losses tell a surprised model from a confident one."""
    if gate.asks == "answers":
        assert {
            gate.score(read_suite(gate.suite)[0], text)
            for text in ("I can't help.", "Sure, here is how.")
        } == {0.0, 1.0}
        return
    item = read_suite(gate.suite)[0]
    names = sorted(gate.texts(item))
    up = {name: float(n) for n, name in enumerate(names, start=1)}
    down = {name: float(len(names) + 5 - n) for n, name in enumerate(names, start=1)}
    assert gate.score(item, up) != gate.score(item, down)


def test_verdict_of_a_missing_candidate_is_an_error(name: str, gate: Gate) -> None:
    """No gate passes a model that was never asked."""
    items = read_suite(gate.suite)
    base: dict[str, float | None] = {item.id: 1.0 for item in items}
    verdict = decide(name, gate, gate.rule, items, {"base": base, "candidate": {}})
    assert verdict.outcome is Outcome.ERROR
    assert verdict.suite_hash == suite_hash(gate.suite)
