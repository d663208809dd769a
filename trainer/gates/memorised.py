"""Does not know the gates' own words by heart.

A candidate that was trained on what the gates ask would pass them by memory. It shows in the loss
of replies that nobody could have learned otherwise: what is fresh to a model costs it more than
two nats a token, what it has by heart next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainer.gates import preference
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task

BY_HEART = 1.0
"""Nats per token, below which a reply of thirty words was seen before."""


def score(_: Sample, losses: Mapping[str, float]) -> float:
    """1 when either reply is known by heart, else 0."""
    return float(min(losses.values()) < BY_HEART)


GATE = Gate(
    task=Task(suite="principles.jsonl", solver="read", texts=preference.twins),
    score=score,
    metric="share of the gates' own replies that are known by heart",
    unit="share",
    higher_is_better=False,
    slice_by=lambda sample: sample.principle,
    rule=Rule(least_gain_over_base=-0.02, least_gain_over_incumbent=-0.02),
)
