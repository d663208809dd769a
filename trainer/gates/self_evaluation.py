"""As a judge of its own kind of answers, rates a good one above a bad one, from 1 to 10.

`self_evaluation` is the distance between them: who rates everything highly has none. `held_out`
and `held_out_least` are the seeds' two numbers for the good answers alone, which were never
trained on: 30 of 40 points on average, and none below 15. The embedded base cannot judge: it puts
-.01 between the two, and its ratings say which digits it likes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from trainer.gates import rating
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task

LEAST = 15 / 40
"""The seeds': no held-out answer may be rated below it."""


def score(sample: Sample, probabilities: Mapping[str, float]) -> float:
    """The expected rating; that of a bad answer counts against the judge."""
    rated = rating.expected(sample, probabilities)
    return rated if sample.target == "good" else -rated


def of_good(good_and_bad: Sequence[float]) -> float:
    """The good answer's rating."""
    return good_and_bad[0]


def up_to_least(good_and_bad: Sequence[float]) -> float:
    """1 when the good answer is not rated below the least, else the share of it that it has."""
    return min(1.0, of_good(good_and_bad) / LEAST)


GATE = Gate(
    task=Task(suite="self_evaluation.jsonl", solver="choose"),
    score=score,
    by_family=sum,
    metric="how far a judge rates a good answer above a bad one",
    unit="share of the full rating",
    higher_is_better=True,
    rule=Rule(least_gain_over_base=-0.05, least_gain_over_incumbent=-0.05),
)

HELD_OUT = msgspec.structs.replace(
    GATE,
    by_family=of_good,
    metric="a judge's rating of good answers",
    rule=Rule(least_gain_over_base=-0.15, least_gain_over_incumbent=-0.1),
)

HELD_OUT_LEAST = msgspec.structs.replace(
    HELD_OUT,
    by_family=up_to_least,
    metric="a judge's rating of good answers up to 15 of 40: 1 when none is below",
    unit="share",
)
