"""MBPP (Austin et al. 2021, arXiv 2108.07732): small Python tasks, run against its asserts."""

from __future__ import annotations

from trainer.gates.benchmarks.benchmark import Benchmark, Row, told
from trainer.gates.code import code_in, passes
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task
from trainer.questions import Answer


def sample(row: Row) -> Sample:
    """From `text` and `test_list`, as the makers and the hub have it; the tests are shown.

    Without the first test nobody could know what the function is called.
    """
    tests = [str(test).strip() for test in told(row, "test_list", "tests")]
    identity = str(row.get("id") or f"mbpp-{told(row, 'task_id')}")
    begins = row.get("test_setup_code") or ""
    return Sample(
        id=identity,
        family=identity,
        prompt=f"{str(told(row, 'text', 'prompt')).strip()} Your code must pass this test:\n"
        f"{tests[0]}",
        target="\n".join((begins, *tests)).strip(),
    )


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
