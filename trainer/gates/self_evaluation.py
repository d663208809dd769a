"""As a judge of its own kind of answers, rates a good one above a bad one, from 1 to 10.

`self_evaluation` counts the points between them: who rates everything highly has none. `held_out`
and `held_out_least` are the seeds' two numbers for the good answers alone, which were never
trained on: 30 of 40 points on average, and none below 15.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from trainer.gates import rating
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task

LOW = 15 / 40
"""The seeds': no held-out answer may be rated below it."""


def score(sample: Sample, probabilities: Mapping[str, float]) -> float:
    """The expected rating, in points; that of a bad answer counts against the judge."""
    points = rating.expected(sample, probabilities)
    return points if sample.target == "good" else -points


def of_good(good_and_bad: Sequence[float]) -> float:
    """The good answer's rating, as a share of the full one."""
    return good_and_bad[0] / 10


def is_not_low(good_and_bad: Sequence[float]) -> float:
    """1 when the good answer has 15 of 40 points at least, else 0."""
    return float(of_good(good_and_bad) >= LOW)


GATE = Gate(
    task=Task(suite="self_evaluation.jsonl", solver="choose"),
    score=score,
    by_family=sum,
    metric="points by which a judge rates a good answer above a bad one",
    unit="points of 10",
    higher_is_better=True,
    rule=Rule(least_gain_over_base=-0.2, least_gain_over_incumbent=-0.1),
)

HELD_OUT = msgspec.structs.replace(
    GATE,
    by_family=of_good,
    metric="a judge's rating of good answers, as a share of the full rating",
    unit="share",
    rule=Rule(least_gain_over_base=-0.1, least_gain_over_incumbent=-0.05),
)

HELD_OUT_LEAST = msgspec.structs.replace(
    HELD_OUT,
    by_family=is_not_low,
    metric="share of good answers that a judge rates at 15 of 40 or more",
)
