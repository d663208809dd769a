"""The losses: cross-entropy on supervised tokens, and how far the adapter went from its base."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn.functional import kl_div, log_softmax

from trainer.model import as_base
from trainer.sequences import IGNORED, Sequence, padded

ROWS_AT_ONCE = 32
"""Positions whose logits are held in float32 together."""


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
    arguments = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**arguments, use_cache=False, logits_to_keep=places).logits
    return logits.flatten(0, 1), targets[:, places].flatten()


def supervised_loss(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """(sum of the cross-entropy in nats, number of supervised tokens)."""
    logits, targets = supervised_logits(model, inputs)
    seen = targets != IGNORED
    total: torch.Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits, targets.where(seen, 0), seen
    )
    return total, int(seen.sum())


class _CrossEntropy(torch.autograd.Function):
    """(logits, targets, which of them count) to the sum in nats, computed in float32.

    As torch's own, but float32 is held of a few rows at a time, in the processor's cache: of the
    whole, copies of 50,000 logits for each position went to memory and back six times.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        norms = torch.cat(
            [rows.float().logsumexp(-1) for rows in torch.split(logits, ROWS_AT_ONCE)]
        )
        ctx.save_for_backward(logits, targets, seen, norms)
        return (norms - _picked(logits, targets)).where(seen, 0).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        logits, targets, seen, norms = ctx.saved_tensors
        weights = seen * gradients[0]
        found = torch.empty_like(logits)
        for start in range(0, len(logits), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            shares = (logits[rows].float() - norms[rows, None]).exp_()
            found[rows] = shares.mul_(weights[rows, None])
        at_targets = ((_picked(logits, targets) - norms).exp() - 1) * weights
        found.scatter_(1, targets[:, None], at_targets[:, None].to(found.dtype))
        return found, None, None


def _picked(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, targets[:, None]).squeeze(1).float()


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
