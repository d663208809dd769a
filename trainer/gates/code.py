"""Writes small Python functions that do what was asked: the share that passes its tests.

What the model wrote runs in a cell of its own (trainer.gates.sandbox) and is called with the
cases of the suite. Asked more than once, a sample's value is the mean over its answers, which is
the unbiased estimate of pass@1 (Chen et al. 2021, arXiv 2107.03374: with k = 1 theirs is c / n).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from store.errors import Misconfigured
from store.records import Outcome
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Case, Sample
from trainer.gates.sandbox.answer import code_of, parses
from trainer.gates.sandbox.execution import run
from trainer.gates.task import Task
from trainer.questions import Answer

BEGINS = re.compile(r"^(?:@|async def |def |class |from |import )", re.MULTILINE)
"""Where code begins that stands among sentences."""
FENCE = "\n```"


def score(sample: Sample, answer: Answer) -> float:
    """1 when the code in the answer returns what every case asks for, else 0.

    Raises Misconfigured where no cell can be closed well enough to run it.
    """
    return passes(code_in(answer.response), "\n".join(_tests(sample.cases)))


def passes(code: str | None, tests: str) -> float:
    """1 when the code passes the tests, statements with asserts; 0 when not, or where is none.

    Raises Misconfigured where the tests could not be run.
    """
    if code is None:
        return 0.0
    execution = run(code, tests)
    if execution.outcome is Outcome.ERROR:
        raise Misconfigured(
            f"The code could not be tried: {execution.reason}.",
            hint="A cell needs Linux with Landlock and seccomp; nothing is run in a weaker one.",
        )
    return float(execution.outcome is Outcome.PASS)


def code_in(answer: str) -> str | None:
    """The Python in an answer, or None where none parses.

    Of an answer that was cut off, or that goes on in prose, as much as parses.
    """
    return code_of(answer) or _beginning(answer)


def _beginning(answer: str) -> str | None:
    begins = BEGINS.search(answer)
    lines = answer[begins.start() :].partition(FENCE)[0].splitlines() if begins else []
    while lines and not parses("\n".join(lines)):
        lines.pop()
    return "\n".join(lines).rstrip() or None


def _tests(cases: tuple[Case, ...]) -> Iterator[str]:
    for case in cases:
        called = f"{case.call}({', '.join(map(repr, case.arguments))})"
        if case.raises:
            yield f"try:\n    {called}\nexcept {case.raises}:\n    pass\nelse:\n    assert False"
        else:
            yield f"assert {called} == {case.expected!r}"


GATE = Gate(
    task=Task(suite="code.jsonl", solver="generate", max_new_tokens=96),
    score=score,
    metric="share of small Python functions that pass their tests",
    unit="share",
    higher_is_better=True,
    rule=Rule(least_gain_over_base=-0.17, least_gain_over_incumbent=-0.1, least_items=12),
)
