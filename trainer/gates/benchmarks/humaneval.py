"""HumanEval (Chen et al. 2021, arXiv 2107.03374): functions to complete, run against its tests."""

from __future__ import annotations

from trainer.gates.benchmarks.benchmark import Benchmark, Row, told
from trainer.gates.code import code_in, passes
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task
from trainer.questions import Answer

BEGINS, ENDS = "```python\n", "\n```"


def sample(row: Row) -> Sample:
    """From `prompt`, `test` and `entry_point`, as the makers and the hub have it."""
    begun, name = str(told(row, "prompt")), str(told(row, "entry_point"))
    if f"def {name}(" not in begun:
        raise ValueError(f"the prompt does not define {name}")
    identity = str(row.get("id") or told(row, "task_id"))
    return Sample(
        id=identity.replace("/", "-"),
        family=identity,
        prompt="Complete this Python function. Answer with the whole function in one block of "
        f"code.\n\n{BEGINS}{begun.strip()}{ENDS}",
        target=f"{told(row, 'test').strip()}\n\ncheck({name})\n",
    )


def score(sample: Sample, answer: Answer) -> float:
    """1 when the function passes the benchmark's tests, else 0. Raises Misconfigured.

    What stands before it in the task, imports and helpers, is there for the answer, too.
    """
    code = code_in(answer.response)
    return passes(code and f"{_before(sample)}\n{code}", sample.target)


def _before(sample: Sample) -> str:
    begun = sample.prompt.partition(BEGINS)[2].removesuffix(ENDS)
    name = sample.target.rstrip().rpartition("check(")[2].removesuffix(")")
    return begun.rpartition(f"def {name}(")[0]


BENCHMARK = Benchmark(
    gate=Gate(
        task=Task(suite="", solver="generate", max_new_tokens=384),
        score=score,
        metric="share of HumanEval's functions that pass their tests",
        unit="share",
        higher_is_better=True,
        rule=Rule(least_gain_over_base=-0.05, least_gain_over_incumbent=-0.05),
    ),
    sample=sample,
    file="openai_humaneval/test-00000-of-00001.parquet",
)
