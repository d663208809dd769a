"""The head with its cross-entropy in one step: what torch's own two give."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy as torchs

from trainer.demand import HEAD_POSITIONS
from trainer.fused.head import ROWS_AT_ONCE, cross_entropy

SIZE, WORDS = 24, 300
COUNTS = [1, ROWS_AT_ONCE + 3, HEAD_POSITIONS + ROWS_AT_ONCE + 5]


def given(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """(x, weight, targets, seen); logits are far apart, and a third of the positions unseen."""
    torch.manual_seed(count)
    x = (torch.randn(count, SIZE) * 3).to(dtype).requires_grad_()
    weight = torch.randn(WORDS, SIZE).to(dtype)
    return x, weight, torch.randint(0, WORDS, (count,)), torch.arange(count) % 3 != 1


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_and_its_gradient_are_torchs(count: int, dtype: torch.dtype) -> None:
    """Of more positions than are held at once, some without a target."""
    x, weight, targets, seen = given(count, dtype)
    (ours,) = torch.autograd.grad(total := cross_entropy(x, weight, targets, seen), x)
    logits = (x @ weight.T).float()
    theirs = torchs(logits[seen], targets[seen], reduction="sum")
    (expected,) = torch.autograd.grad(theirs, x)
    torch.testing.assert_close(total, theirs, rtol=1e-5, atol=1e-4)
    rough = {"rtol": 2e-2, "atol": 5e-2} if dtype is torch.bfloat16 else {}
    torch.testing.assert_close(ours, expected, **rough)
    assert not ours[~seen].any()


def test_the_gradient_is_the_slope() -> None:
    """By differences, in float64, also of a multiple of the sum."""
    x, weight, targets, seen = given(20, torch.float64)
    assert torch.autograd.gradcheck(
        lambda t: cross_entropy(t, weight, targets, seen) * 0.5, (x / 3).detach().requires_grad_()
    )


def test_no_gradient_is_made_where_none_is_wanted() -> None:
    """And the sum is the same."""
    x, weight, targets, seen = given(40, torch.float32)
    with torch.inference_mode():
        total = cross_entropy(x, weight, targets, seen)
    assert not total.requires_grad
    torch.testing.assert_close(total, cross_entropy(x, weight, targets, seen).detach())


def test_what_is_not_finite_is_not_hidden() -> None:
    """It reaches the sum."""
    x, weight, targets, seen = given(40, torch.float32)
    x = x.detach().clone()
    x[3] = torch.nan
    assert cross_entropy(x, weight, targets, seen).isnan()
