"""Still solves word problems: the right number among four that are easily taken for it."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task


def score(sample: Sample, probabilities: Mapping[str, float]) -> float:
    """The probability of the right number among the four; a guess has .25."""
    return probabilities[sample.target]


GATE = Gate(
    task=Task(suite="arithmetic.jsonl", solver="choose"),
    score=score,
    metric="probability of the right number among four",
    unit="share",
    higher_is_better=True,
    rule=Rule(least_gain_over_base=-0.1, least_gain_over_incumbent=-0.05),
)
