"""Attention with its rotation as one step of autograd (torch), for short rows on a processor.

    q, k turned by their positions    p = softmax(s q k' + mask)    y = p v
    gradients, with g of y:  v: p' g    q: s d k    k: s d' q    d = softmax's gradient of g v'

(Attention: arXiv 1706.03762; heads that share keys: 2305.13245; the rotation: 2104.09864; '
transposes.) Every head's products are one product for each key head, softmax is computed in
float32 and kept as it is multiplied: transformers' copies the keys for each head, and the weights
to float32 and back.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch

from trainer.fused.linear import answers


class _Attention(torch.autograd.Function):
    """(q, k, v, cos, sin, mask or None, scale) to y.

    q and y of shape (rows, tokens, heads, size), k and v with fewer heads; cos and sin of shape
    (rows or 1, tokens, size), the mask (rows, 1, tokens, tokens), added.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        rows, tokens, heads, size = q.shape
        shared = rows * k.shape[2]
        q = _turned(q, cos * scale, sin * scale).view(shared, -1, size)
        k = _turned(k, cos, sin).view(shared, tokens, size)
        v = v.transpose(1, 2).reshape(shared, tokens, size)
        scores = q @ k.mT
        if mask is not None:
            scores.view(rows, heads, tokens, tokens).add_(mask)
        p = scores.softmax(-1)
        ctx.save_for_backward(q, k, v, p, cos, sin)
        ctx.scale, ctx.heads = scale, heads
        return _apart(p @ v, rows, heads)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, p, cos, sin = ctx.saved_tensors
        (g,), scale, heads = gradients, ctx.scale, ctx.heads
        rows = len(g)
        g = g.transpose(1, 2).reshape(q.shape)
        d = torch.ops.aten._softmax_backward_data(g @ v.mT, p, -1, p.dtype)  # noqa: SLF001
        shared = len(k) // rows
        return (
            _turned_back(_apart(d @ k, rows, heads), cos * scale, sin * scale),
            _turned_back(_apart(d.mT @ q, rows, shared), cos, sin),
            _apart(p.mT @ g, rows, shared),
            None,
            None,
            None,
            None,
        )


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """X of shape (rows, tokens, heads, size), turned, as (rows, heads, tokens, size)."""
    x, cos, sin = x.transpose(1, 2), cos[:, None], sin[:, None]
    half = x.shape[-1] // 2
    turned = torch.mul(x, cos, out=x.new_empty(x.shape))
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return turned


def _turned_back(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The rotation's gradient, of shape (rows, tokens, heads, size)."""
    cos, sin = cos[:, :, None], sin[:, :, None]
    half = x.shape[-1] // 2
    back = x * cos
    back[..., :half].addcmul_(x[..., half:], sin[..., half:])
    back[..., half:].addcmul_(x[..., :half], sin[..., :half], value=-1)
    return back


def _apart(x: torch.Tensor, rows: int, heads: int) -> torch.Tensor:
    """Of all rows' heads, one after another, each token's heads side by side."""
    return x.view(rows, heads, -1, x.shape[-1]).transpose(1, 2).contiguous()


def fuse_attention(module: Any) -> None:
    """An attention like LlamaAttention computes so from now on; with a cache, as before."""
    module.forward = MethodType(_forward, module)


def _forward(
    module: Any,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    attention_mask: torch.Tensor | None = None,
    past_key_values: Any = None,
    **named: Any,
) -> Any:
    if past_key_values is not None or (module.training and module.attention_dropout):
        return type(module).forward(
            module, hidden_states, position_embeddings, attention_mask, past_key_values, **named
        )
    shape = (*hidden_states.shape[:-1], -1, module.head_dim)
    projected = answers(hidden_states, module.q_proj, module.k_proj, module.v_proj)
    q, k, v = (y.view(shape) for y in projected)
    with torch.autocast(q.device.type, enabled=False):  # it would take softmax to float32 and back
        y = _Attention.apply(  # type: ignore[no-untyped-call]
            q, k, v, *position_embeddings, attention_mask, module.scaling
        )
    return module.o_proj(y.flatten(2)), None
