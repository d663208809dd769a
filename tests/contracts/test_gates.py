"""What every gate of the roster promises."""

from __future__ import annotations

import math
from typing import Any

import pytest

from store.records import Outcome
from trainer.gates import GATES
from trainer.gates.decide import decide
from trainer.gates.gate import Gate
from trainer.gates.sample import read_suite, suite_hash
from trainer.questions import Answer

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
    items = read_suite(gate.task.suite)
    assert items
    assert len(suite_hash(gate.task.suite)) == 64
    for item in items:
        texts = gate.task.texts(item)
        assert bool(texts) is (gate.task.solver == "read")
        assert all(text.strip() for text in texts.values())
        assert bool(item.options) is (gate.task.solver == "choose")
        assert isinstance(gate.slice_by(item), str)


def test_words_are_there(gate: Gate) -> None:
    """A verdict's reader learns what was measured, and in which unit."""
    assert gate.metric.strip()
    assert gate.unit.strip()


def test_rule_is_sane(gate: Gate) -> None:
    """The default asks for enough items, and allows no large loss against the one in service."""
    rule, n = gate.rule, len(read_suite(gate.task.suite))
    assert rule.least_items >= min(12, n)
    assert math.isfinite(rule.least_gain_over_base)
    # Of a short suite two or three items may be chance; doublings of a length are no shares.
    most = 1.0 if gate.unit != "share" else max(0.2, 3 / n)
    assert -most <= rule.least_gain_over_base < 1
    least = -1.0 if gate.unit != "share" else -max(0.1, 2.5 / n)
    assert least <= rule.least_gain_over_incumbent <= 0


def answer(text: str) -> Answer:
    """An answer of these words, which ended by itself."""
    return Answer(id="a", response=text, tokens=len(text.split()), finished=True)


@pytest.mark.parametrize("kind", sorted(ANSWERS))
def test_scores_any_answer(gate: Gate, kind: str) -> None:
    """Whatever a model says, the score is a finite number, and the same one again."""
    item = read_suite(gate.task.suite)[0]
    value: Any = {
        "generate": lambda: answer(ANSWERS[kind]),
        "read": lambda: dict.fromkeys(gate.task.texts(item), 1.5),
        "choose": lambda: dict.fromkeys(item.options, 1 / max(1, len(item.options))),
    }[gate.task.solver]()
    score = gate.score(item, value)
    assert isinstance(score, float)
    assert math.isfinite(score)
    assert gate.score(item, value) == score


def test_losses_order_the_score(gate: Gate) -> None:
    """Gates that read losses tell a surprised model from a confident one."""
    if gate.task.solver != "read":
        pytest.skip("this gate reads no losses")
    item = read_suite(gate.task.suite)[0]
    names = sorted(gate.task.texts(item))
    up = {name: float(n) for n, name in enumerate(names, start=1)}
    down = {name: float(len(names) + 5 - n) for n, name in enumerate(names, start=1)}
    assert gate.score(item, up) != gate.score(item, down)


def test_choices_order_the_score(gate: Gate) -> None:
    """Gates that let a model choose tell one option from another."""
    if gate.task.solver != "choose":
        pytest.skip("this gate offers no choice")
    item = read_suite(gate.task.suite)[0]
    scores = {
        gate.score(item, {other: float(other == option) for other in item.options})
        for option in item.options
    }
    assert len(scores) > 1


def test_verdict_of_a_missing_candidate_is_an_error(name: str, gate: Gate) -> None:
    """No gate passes a model that was never asked."""
    items = read_suite(gate.task.suite)
    base: dict[str, float | None] = {item.id: 1.0 for item in items}
    verdict = decide(name, gate, gate.rule, items, {"base": base, "candidate": {}})
    assert verdict.outcome is Outcome.ERROR
    assert verdict.suite_hash == suite_hash(gate.task.suite)
