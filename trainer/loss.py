"""The losses: cross-entropy on supervised tokens, and how far the adapter went from its base."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from trainer.fused.head import cross_entropy as head_loss
from trainer.model import as_base
from trainer.sequences import IGNORED, Sequence, padded

PLAIN_HEADS = ("llama", "mistral", "qwen2", "qwen3", "gpt_neox")
"""Families whose logits are the head's products, and nothing after."""


def supervised_logits(
    model: Any, inputs: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, targets) of the positions where a row of the batch is supervised.

    The head is applied there only: with a vocabulary of 49,152 the logits of the other positions
    would be most of the work and of the memory. Of other rows' tokens there, the target is
    IGNORED.
    """
    targets = inputs["labels"][:, 1:]
    places = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    logits = _answered(model, inputs, logits_to_keep=places)
    return logits.flatten(0, 1), targets[:, places].flatten()


def supervised_loss(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """(sum of the cross-entropy in nats, number of supervised tokens)."""
    head = _plain_head(model)
    if head is None:
        logits, targets = supervised_logits(model, inputs)
        total = cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
        return total, int((targets != IGNORED).sum())
    targets = inputs["labels"][:, 1:]
    places = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    targets = targets[:, places].flatten()
    seen = targets != IGNORED

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        return head_loss(x.flatten(0, 1), head.weight, targets.where(seen, 0), seen)

    # The model's forward is what wrappers (autocast, several ranks) know; its last step is ours.
    head.forward = loss_of
    try:
        return _answered(model, inputs, logits_to_keep=places), int(seen.sum())
    finally:
        del head.forward


def _answered(model: Any, inputs: dict[str, torch.Tensor], **named: Any) -> torch.Tensor:
    arguments = {name: value for name, value in inputs.items() if name != "labels"}
    logits: torch.Tensor = model(**arguments, use_cache=False, **named).logits
    return logits


def _plain_head(model: Any) -> Any | None:
    """The head, where the logits are its products with a frozen matrix; else None."""
    bare = extract_model_from_parallel(model)
    head = bare.get_output_embeddings()
    plain = (
        type(head) is torch.nn.Linear  # not one with an adapter
        and head.bias is None
        and not head.weight.requires_grad
        and bare.config.model_type in PLAIN_HEADS
    )
    return head if plain else None


def mean_loss(model: Any, sequences: Iterable[Sequence]) -> float:
    """Mean cross-entropy in nats per supervised token, one sequence at a time."""
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for sequence in sequences:
            loss, count = supervised_loss(model, _alone(sequence, model))
            total, tokens = total + float(loss), tokens + count
    return total / tokens


def log_ratio(model: Any, sequence: Sequence) -> float:
    """How many nats likelier the supervised tokens are to the adapted model than to its base."""
    with torch.inference_mode():
        inputs = _alone(sequence, model)
        adapted, _ = supervised_loss(model, inputs)
        with as_base(model):
            base, _ = supervised_loss(model, inputs)
    return float(base - adapted)


def kl_to_base(model: Any, sequences: Iterable[Sequence]) -> float:
    """Mean KL divergence in nats per supervised token of the adapted model from its base.

    What was learned and what was forgotten for it both grow with it.
    """
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for sequence in sequences:
            inputs = _alone(sequence, model)
            adapted, targets = supervised_logits(model, inputs)
            with as_base(model):
                base, _ = supervised_logits(model, inputs)
            divergence = kl_div(
                log_softmax(base.float(), dim=-1),
                log_softmax(adapted.float(), dim=-1),
                reduction="sum",
                log_target=True,
            )
            total, tokens = total + float(divergence), tokens + len(targets)
    return total / tokens


def _alone(sequence: Sequence, model: Any) -> dict[str, torch.Tensor]:
    return {name: value.to(model.device) for name, value in padded([sequence]).items()}
