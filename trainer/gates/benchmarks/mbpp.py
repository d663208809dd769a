"""MBPP (Austin et al. 2021, arXiv 2108.07732): small Python tasks, run against its asserts."""

from __future__ import annotations

import ast
import builtins

from trainer.gates.benchmarks.benchmark import Benchmark, Row, told
from trainer.gates.code import code_in, passes
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task
from trainer.questions import Answer


def sample(row: Row) -> Sample | None:
    """From `text` and `test_list`, as the makers and the hub have it; the tests are shown.

    Without the first test nobody could know what the function is called. None where the tests
    need more of the makers' solution than calls of its functions with data.
    """
    tests = [str(test).strip() for test in told(row, "test_list", "tests")]
    identity = str(row.get("id") or f"mbpp-{told(row, 'task_id')}")
    target = "\n".join((row.get("test_setup_code") or "", *tests)).strip()
    if not _can_be_asked(target):
        return None
    return Sample(
        id=identity,
        family=identity,
        prompt=f"{str(told(row, 'text', 'prompt')).strip()} Your code must pass this test:\n"
        f"{tests[0]}",
        target=target,
    )


def _can_be_asked(tests: str) -> bool:
    """Whether all that they use and do not make is called, and is not called like Python's own.

    Raises SyntaxError for what is no Python.
    """
    nodes = list(ast.walk(ast.parse(tests)))
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    made = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    made |= {
        (alias.asname or alias.name).partition(".")[0]
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {node.id for node in names} - made
    theirs = used - set(dir(builtins))
    return bool(theirs) and theirs <= called


def score(sample: Sample, answer: Answer) -> float:
    """1 when the code passes the benchmark's tests, else 0. Raises Misconfigured."""
    return passes(code_in(answer.response), sample.target)


BENCHMARK = Benchmark(
    gate=Gate(
        task=Task(suite="", solver="generate", max_new_tokens=256),
        score=score,
        metric="share of MBPP's tasks that pass their tests",
        unit="share",
        higher_is_better=True,
        rule=Rule(least_gain_over_base=-0.05, least_gain_over_incumbent=-0.05),
    ),
    sample=sample,
    file="full/test-00000-of-00001.parquet",
)
