"""Forgets nothing: the loss on held-out ordinary help that nobody trained on."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.gates.gate import Gate, Item, Rule


def texts(item: Item) -> dict[str, str]:
    """The reference answer."""
    return {"reference": item.reference}


def score(_: Item, losses: Mapping[str, float]) -> float:
    """Cross-entropy of the reference answer, in nats per token."""
    return losses["reference"]


GATE = Gate(
    suite="help.jsonl",
    asks="losses",
    texts=texts,
    score=score,
    metric="mean loss on held-out ordinary help",
    unit="nats per token",
    higher_is_better=False,
    rule=Rule(least_gain_over_base=-0.10, least_gain_over_incumbent=-0.05),
)
