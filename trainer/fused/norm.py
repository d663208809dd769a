"""RMSNorm as one step of autograd (torch).

    y = n w    n = x r    r = 1 / sqrt(mean(x^2) + eps)
    gradient of x, with g of y and k = g w:  r (k - n mean(k n))

(arXiv 1910.07467.) Answers are transformers' to the bit. Kept of the forward pass are n and r;
theirs keeps x in float32, and what comes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch

ROWS_AT_ONCE = 512
"""Held in float32 together: in a processor's cache."""


class _Norm(torch.autograd.Function):
    """(x, weight, eps) to y. The weight gets no gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        exact, x = torch.promote_types(x.dtype, torch.float32), x.contiguous()
        y, n = torch.empty_like(x), torch.empty_like(x)
        r = x.new_empty((*x.shape[:-1], 1), dtype=exact)
        for x_, r_, n_, y_ in _parts(x, r, n, y):
            wide = x_.to(exact, copy=True)
            torch.mean(wide.square(), -1, keepdim=True, out=r_)
            n_.copy_(wide.mul_(r_.add_(eps).rsqrt_()))
            torch.mul(weight, n_, out=y_)
        ctx.save_for_backward(n, r, weight)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        n, r, weight = ctx.saved_tensors
        of_x = torch.empty_like(n)
        for g, r_, n_, of_x_ in _parts(gradients[0].contiguous(), r, n, of_x):
            wide = n_.to(r.dtype)
            k = g.to(r.dtype, copy=True).mul_(weight)
            k.addcmul_(wide, (k * wide).mean(-1, keepdim=True), value=-1)
            of_x_.copy_(k.mul_(r_))
        return of_x, None, None


def _parts(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same rows of each, some at a time."""
    rows = (torch.split(t.view(-1, t.shape[-1]), ROWS_AT_ONCE) for t in tensors)
    return zip(*rows, strict=True)


def fuse_norm(module: Any) -> None:
    """A norm like LlamaRMSNorm computes so from now on."""
    module.forward = MethodType(_forward, module)


def _forward(module: Any, x: torch.Tensor) -> torch.Tensor:
    normed: torch.Tensor = _Norm.apply(  # type: ignore[no-untyped-call]
        x, module.weight, module.variance_epsilon
    )
    return normed
