"""Does not know the gates' own words by heart.

A candidate that was trained on what the gates ask would pass them by memory. A reply that it has
seen costs it far less than its twin, which is alike in length, tone and half its words: the twin
is the fresh text beside it, whatever else the training did to the losses. Four right trainings of
the embedded base never went above a ratio of 1.32, nor below 2.5 nats a token.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainer.gates import preference
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task

RATIO = 1.5
"""So many times the loss of one reply is that of its twin when one of them was learned."""
BY_HEART = 1.0
"""Nats per token, below which a reply of thirty words was learned, whatever its twin costs."""


def score(_: Sample, losses: Mapping[str, float]) -> float:
    """1 when either reply is known by heart, else 0."""
    low, high = sorted(losses.values())
    return float(low < BY_HEART or high / low > RATIO)


GATE = Gate(
    task=Task(suite="principles.jsonl", solver="read", texts=preference.twins),
    score=score,
    metric="share of the gates' own replies that are known by heart",
    unit="share",
    higher_is_better=False,
    slice_by=lambda sample: sample.principle,
    rule=Rule(least_gain_over_base=-0.03, least_gain_over_incumbent=-0.03),
)
