"""As a judge, rates one answer alike however the question is worded.

Forty answers, good and poor ones, each to five wordings of its question; the value is the spread
of the five expected ratings. A judge that rates everything alike has none: `self_evaluation`
stands beside it. The ceiling is the seeds' 0.6 points of 10.
"""

from __future__ import annotations

from statistics import pstdev

from trainer.gates import rating
from trainer.gates.gate import Gate, Rule
from trainer.gates.task import Task

GATE = Gate(
    task=Task(suite="paraphrase.jsonl", solver="choose"),
    score=rating.expected,
    by_family=pstdev,
    metric="standard deviation of a judge's rating over five wordings of the question",
    unit="share of the full rating",
    higher_is_better=False,
    rule=Rule(least_gain_over_base=-0.03, least_gain_over_incumbent=-0.03, floor=0.06),
)
