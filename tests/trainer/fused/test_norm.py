"""RMSNorm in one step: transformers' answers to the bit, and their gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from trainer.fused import norm
from trainer.fused.norm import ROWS_AT_ONCE, fuse_norm

SHAPES = [(2, 7, 12), (3, ROWS_AT_ONCE // 2, 12), (1, 0, 12)]
"""Fewer rows than are taken at once, more, and none."""


def norms(dtype: torch.dtype) -> tuple[Any, Any]:
    """Theirs and ours, with the same weights, frozen."""
    torch.manual_seed(0)
    theirs = LlamaRMSNorm(12, eps=1e-5).to(dtype).requires_grad_(False)
    theirs.weight.copy_(torch.rand(12) + 0.5)
    ours = LlamaRMSNorm(12, eps=1e-5).to(dtype).requires_grad_(False)
    ours.load_state_dict(theirs.state_dict())
    fuse_norm(ours)
    return theirs, ours


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_answer_is_transformers_to_the_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """However many rows, with magnitudes far apart, and of a view."""
    theirs, ours = norms(dtype)
    x = (torch.randn(shape) * torch.logspace(-3, 3, 12)).to(dtype)
    assert torch.equal(ours(x), theirs(x))
    turned = x.transpose(0, 1)
    assert torch.equal(ours(turned), theirs(turned))


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_the_gradient_is_transformers(shape: tuple[int, ...]) -> None:
    """In float32, where rounding hides nothing."""
    theirs, ours = norms(torch.float32)
    x = torch.randn(shape).requires_grad_()
    weights = torch.randn(shape)
    found, expected = (
        torch.autograd.grad((module(x) * weights).sum(), x)[0] for module in (ours, theirs)
    )
    torch.testing.assert_close(found, expected)


def test_the_gradient_is_the_slope() -> None:
    """By differences, in float64."""
    x = torch.randn(2, 3, 5, dtype=torch.float64).requires_grad_()
    weight = torch.rand(5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t: norm._Norm.apply(t, weight, 1e-5), (x,))


def test_bfloat16_loses_no_more_than_transformers_does() -> None:
    """The gradient, against float32's."""
    torch.manual_seed(1)
    theirs, ours = norms(torch.bfloat16)
    exact, _ = norms(torch.float32)
    x, weights = torch.randn(64, 12), torch.randn(64, 12)

    def gradient(module: Any, dtype: torch.dtype) -> torch.Tensor:
        given = x.to(dtype).requires_grad_()
        (found,) = torch.autograd.grad((module(given) * weights.to(dtype)).sum(), given)
        return found.float()

    expected = gradient(exact, torch.float32)
    lost = [
        float((gradient(module, torch.bfloat16) - expected).norm()) for module in (ours, theirs)
    ]
    assert 0 < lost[0] < 1.2 * lost[1]
