"""Forgets nothing: the loss on held-out ordinary help that nobody trained on."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task


def texts(sample: Sample) -> dict[str, str]:
    """The reference answer."""
    return {"reference": sample.reference}


def score(_: Sample, losses: Mapping[str, float]) -> float:
    """Cross-entropy of the reference answer, in nats per token."""
    return losses["reference"]


GATE = Gate(
    task=Task(suite="help.jsonl", solver="read", texts=texts),
    score=score,
    metric="mean loss on held-out ordinary help",
    unit="nats per token",
    higher_is_better=False,
    must_differ=True,
    rule=Rule(least_gain_over_base=-0.10, least_gain_over_incumbent=-0.05),
)
