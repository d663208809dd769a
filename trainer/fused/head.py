"""A language model's head with its cross-entropy as one step of autograd (torch).

    l = x W'    loss = sum of log(sum(exp(l))) - l at the target
    gradient of x:  (softmax(l) - 1 at the target) W

The logits of some positions at a time become their own gradient, in the same memory: of 1,400
positions and 49,152 tokens they would be 140 MB, and as much again for the gradient.
"""

from __future__ import annotations

from typing import Any

import torch

from trainer.demand import HEAD_POSITIONS

ROWS_AT_ONCE = 16
"""Of those, that are in float32 together: in a processor's cache."""


class _Head(torch.autograd.Function):
    """(x, W, targets, which of them count) to the sum in nats. W gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        gradient = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        exact = torch.promote_types(x.dtype, torch.float32)
        total = x.new_zeros((), dtype=exact)
        held = x.new_empty(HEAD_POSITIONS, len(weight))
        wide = x.new_empty(ROWS_AT_ONCE, len(weight), dtype=exact)
        for start in range(0, len(x), HEAD_POSITIONS):
            here = slice(start, start + HEAD_POSITIONS)
            logits = torch.mm(x[here], weight.T, out=held[: len(x[here])])
            for first in range(0, len(logits), ROWS_AT_ONCE):
                few = slice(first, first + ROWS_AT_ONCE)
                wanted, counts = targets[here][few, None], seen[here][few, None]
                total += _to_gradient(logits[few], wanted, counts, wide)
            if gradient is not None:
                torch.mm(logits, weight, out=gradient[here])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (of_x,) = ctx.saved_tensors
        return of_x * gradients[0], None, None, None


def _to_gradient(
    logits: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor, wide: torch.Tensor
) -> torch.Tensor:
    """The sum of those rows' cross-entropies that count; its gradient is left in the logits."""
    shares = wide[: len(logits)].copy_(logits)
    of_target = shares.gather(1, targets)
    highest = shares.amax(1, keepdim=True)
    sums = shares.sub_(highest).exp_().sum(1, keepdim=True)
    shares.mul_(counts / sums).scatter_add_(1, targets, -counts.to(shares.dtype))
    logits.copy_(shares)
    return (sums.log() + highest - of_target).where(counts, 0).sum()


def cross_entropy(
    x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor
) -> torch.Tensor:
    """The sum in nats over the positions that are seen; sums are in float32.

    x: (positions, size); weight: (tokens, size), frozen; targets and seen: (positions,). Under
    autocast the products are in its precision.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        x = x.to(torch.get_autocast_dtype(kind))
    with torch.autocast(kind, enabled=False):
        total: torch.Tensor = _Head.apply(  # type: ignore[no-untyped-call]
            x, weight.to(x.dtype), targets, seen
        )
    return total
