"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168): word problems; the last number must be right."""

from __future__ import annotations

import re
from decimal import Decimal

from store.records import digest
from trainer.gates.benchmarks.benchmark import Benchmark, Row, told
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task
from trainer.questions import Answer

NUMBER = re.compile(r"(?<![\w.)])-?\d[\d,]*(?:\.\d+)?|\d[\d,]*(?:\.\d+)?")
"""A minus is a sign only where nothing stands before it from which it could take away."""
GOLD = "####"
"""Behind it stands the result, in the makers' solutions."""


def sample(row: Row) -> Sample:
    """From `question` and `answer`, as the makers and the hub have it."""
    problem = str(told(row, "question", "prompt"))
    answer = str(told(row, "answer")).rpartition(GOLD)[2]
    identity = str(row.get("id") or f"gsm8k-{digest(problem)[:16]}")
    return Sample(
        id=identity,
        family=identity,
        prompt=f"{problem}\nEnd with the result as a number.",
        target=str(_value(answer.strip())),
    )


def score(sample: Sample, answer: Answer) -> float:
    """1 when the last number of the answer is the result, else 0."""
    numbers = NUMBER.findall(answer.response)
    return float(bool(numbers) and _value(numbers[-1]) == Decimal(sample.target))


def _value(number: str) -> Decimal:
    """Raises ValueError for what is no number."""
    try:
        return Decimal(number.replace(",", ""))
    except ArithmeticError as error:
        raise ValueError(f"{number!r} is no number") from error


BENCHMARK = Benchmark(
    gate=Gate(
        task=Task(suite="", solver="generate", max_new_tokens=256),
        score=score,
        metric="share of GSM8K's problems solved",
        unit="share",
        higher_is_better=True,
        rule=Rule(least_gain_over_base=-0.05, least_gain_over_incumbent=-0.05),
    ),
    sample=sample,
    file="main/test-00000-of-00001.parquet",
)
