"""A linear layer with its adapter as one step of autograd (torch).

PEFT casts a layer's input to the adapter's precision and its answer back, and scales and adds in
steps of their own: on a processor they take longer than the adapter's products themselves. Here
they are one step, whose gradient is written out:

    y = x W' + h (s B)'    h = x A'
    gradients, with g of y and k = g s B:  x: g W + k A    A: k' x    B: s g' h

(W, A, B and the scale s as in LoRA, arXiv 2106.09685; ' transposes.) Products are in the base's
precision, the adapter and its gradients in the adapter's own.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch.nn.functional import linear


class _Adapted(torch.autograd.Function):
    """(x, base's weight, its bias or None, A, B, scale) to y. The base gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        down, up = a.to(weight.dtype), (b * scale).to(weight.dtype)
        hidden = rows @ down.T
        ctx.save_for_backward(rows, weight, down, up, hidden)
        ctx.scale, ctx.precision = scale, a.dtype
        y = linear(rows, weight, bias).addmm_(hidden, up.T)
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, down, up, hidden = ctx.saved_tensors
        g = gradients[0].reshape(-1, gradients[0].shape[-1])
        k = g @ up
        of_a = (k.T @ rows).to(ctx.precision)
        of_b = (g.T @ hidden).to(ctx.precision).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (g @ weight).addmm_(k, down)
            of_x = of_x.view(*gradients[0].shape[:-1], weight.shape[1])
        return of_x, None, None, of_a, of_b, None


class FusedLinear(Linear):  # type: ignore[misc]  # PEFT's classes have no types
    """PEFT's layer, faster where it is plain: one adapter, switched on, without dropout.

    Everything else, and all that is loaded, saved, scaled or merged, is PEFT's.
    """

    def forward(self, x: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        """The answer for x of shape (..., inputs), in the base's precision."""
        if arguments or named or not self._is_plain():
            answer: torch.Tensor = super().forward(x, *arguments, **named)
            return answer
        (name,) = self.active_adapters
        layer = self.get_base_layer()
        with torch.autocast(x.device.type, enabled=False):  # the precision is chosen here
            adapted: torch.Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
                x.to(layer.weight.dtype),
                layer.weight,
                layer.bias,
                self.lora_A[name].weight,
                self.lora_B[name].weight,
                self.scaling[name],
            )
        return adapted

    def _is_plain(self) -> bool:
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return False
        (name,) = self.active_adapters
        return (
            name in self.lora_A
            and name not in self.lora_variant  # DoRA and its kind
            and not self.lora_bias[name]
            and isinstance(self.lora_dropout[name], torch.nn.Identity)
        )
