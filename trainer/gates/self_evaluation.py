"""As a judge of its own kind of answers, rates a good one above a bad one, from 1 to 10."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.gates import rating
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task


def score(sample: Sample, probabilities: Mapping[str, float]) -> float:
    """The expected rating, in points; that of a bad answer counts against the judge."""
    points = rating.expected(sample, probabilities)
    return points if sample.target == "good" else -points


GATE = Gate(
    task=Task(suite="self_evaluation.jsonl", solver="choose"),
    score=score,
    by_family=sum,
    metric="points by which a judge rates a good answer above a bad one",
    unit="points of 10",
    higher_is_better=True,
    rule=Rule(least_gain_over_base=-0.2, least_gain_over_incumbent=-0.1),
)
