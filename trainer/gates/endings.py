"""Comes to an end: the share of short answers after which the model stops by itself.

A broken end-of-turn shows here first: the words may be right, and then it goes on talking.
"""

from __future__ import annotations

from trainer.gates.gate import Gate, Rule
from trainer.gates.length import SHORT
from trainer.gates.sample import Sample
from trainer.questions import Answer


def score(_: Sample, answer: Answer) -> float:
    """1 when it said something and ended by itself, else 0."""
    return float(answer.finished and bool(answer.response.strip()))


GATE = Gate(
    task=SHORT,
    score=score,
    metric="share of short answers that end by themselves",
    unit="share",
    higher_is_better=True,
    rule=Rule(least_gain_over_base=-0.15, least_gain_over_incumbent=-0.15, least_items=16),
)
