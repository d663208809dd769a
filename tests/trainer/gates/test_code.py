"""The gate of code: what counts as an answer's code, and what passes."""

from __future__ import annotations

import msgspec
import pytest

from store.errors import Misconfigured
from store.records import Outcome
from trainer.gates import code
from trainer.gates.sample import Case, read_suite
from trainer.gates.sandbox.execution import Execution, Level
from trainer.questions import Answer

SAMPLES = read_suite(code.GATE.task.suite)
DOUBLE = "def double(n):\n    return 2 * n"


def said(response: str) -> Answer:
    """An answer of these words."""
    return Answer(id="a", response=response, tokens=1, finished=True)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
def test_the_good_reply_of_every_sample_passes_its_cases(sample):
    """A suite whose own answers fail would measure nothing."""
    assert code.score(sample, said(sample.reference)) == 1.0


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
def test_one_answer_for_all_cases_passes_none(sample):
    """The cases tell a function from the constant that its first case asks for."""
    first = sample.cases[0]
    constant = f"def {first.call}(*_):\n    return {first.expected!r}"

    assert len(sample.cases) >= 3
    assert {case.call for case in sample.cases} == {sample.target}
    assert code.score(sample, said(constant)) == 0.0


def test_prose_and_wrong_names_do_not_pass():
    """What is no code, or another function, does not do what was asked."""
    sample = SAMPLES[0]

    assert code.score(sample, said("I would multiply it by itself.")) == 0.0
    assert code.score(sample, said(sample.reference.replace("square", "cube"))) == 0.0
    assert code.score(sample, said("")) == 0.0


def test_a_case_may_ask_for_an_exception():
    """Only the exception that is asked for passes."""
    case = Case(call="half", arguments=(3,), raises="ValueError")
    sample = msgspec.structs.replace(SAMPLES[0], cases=(case,))

    def half(does: str) -> float:
        return code.score(sample, said(f"```python\ndef half(n):\n    {does}\n```"))

    assert half("raise ValueError(n)") == 1.0
    assert half("raise TypeError(n)") == 0.0
    assert half("return 1") == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        DOUBLE,
        f"```python\n{DOUBLE}\n```\nIt doubles.",
        f"Sure, here it is:\n\n{DOUBLE}\n\nThis returns twice the number.",
        f"Here:\n```python\n{DOUBLE}\n\nprint(double(",
        f"{DOUBLE}\n```",
    ],
    ids=["bare", "fenced", "among prose", "cut off", "fence closed only"],
)
def test_code_is_found_however_it_is_wrapped(answer):
    """Small models close no fence, go on in prose, or are cut off in the middle."""
    assert code.code_in(answer) == DOUBLE


@pytest.mark.parametrize("answer", ["", "I cannot do that.", "def broken(:\n  x", "def f(x):"])
def test_no_code_is_none(answer):
    """Nothing that parses begins there."""
    assert code.code_in(answer) is None


def test_a_cell_that_cannot_be_closed_is_an_error_and_no_failure(monkeypatch):
    """A machine that cannot run the tests must not make a model look worse, or better."""
    missing = Execution(outcome=Outcome.ERROR, reason="kernel is required", level=Level.NONE)
    monkeypatch.setattr(code, "run", lambda *_: missing)

    with pytest.raises(Misconfigured, match="kernel is required"):
        code.score(SAMPLES[0], said(SAMPLES[0].reference))
