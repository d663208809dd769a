"""Linear layers with their adapters as one step of autograd (torch).

PEFT casts a layer's input to the adapter's precision and its answer back, and scales and adds in
steps of their own: on a processor they take longer than the adapter's products themselves. Here
they are one step, whose gradient is written out; and so are several layers that are given the same
input, whose gradients are summed as they are multiplied:

    y = x W' + h (s B)'    h = x A'
    gradients, with g of y and k = g s B:  x: g W + k A    A: k' x    B: s g' h

(W, A, B and the scale s as in LoRA, arXiv 2106.09685; ' transposes.) Products are in the base's
precision, the adapter and its gradients in the adapter's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch.nn.functional import linear

PARTS = 4
"""Of a layer, in the order in which they are given: weight, bias, A, B."""


class _Adapted(torch.autograd.Function):
    """(x, scales, then each layer's weight, bias or None, A and B) to each layer's y.

    The base gets no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scales: Sequence[float], *layers: Any
    ) -> tuple[torch.Tensor, ...]:
        weights, biases, as_, bs = (layers[part::PARTS] for part in range(PARTS))
        rows, precision = x.reshape(-1, x.shape[-1]), weights[0].dtype
        downs = torch.cat(as_).to(precision)
        ups = [(b * scale).to(precision) for b, scale in zip(bs, scales, strict=True)]
        hidden = rows @ downs.T
        ctx.save_for_backward(rows, downs, hidden, *ups, *weights)
        ctx.scales, ctx.precision = scales, as_[0].dtype
        return tuple(
            linear(rows, weight, bias).addmm_(h, up.T).view(*x.shape[:-1], len(weight))
            for weight, bias, h, up in zip(weights, biases, _split(hidden, ups), ups, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        rows, downs, hidden, *both = ctx.saved_tensors
        ups, weights = both[: len(gradients)], both[len(gradients) :]
        gs = [g.reshape(-1, g.shape[-1]) for g in gradients]
        k = torch.empty_like(hidden)
        of_bs = []
        for g, h, k_, up, scale in zip(
            gs, _split(hidden, ups), _split(k, ups), ups, ctx.scales, strict=True
        ):
            torch.mm(g, up, out=k_)
            of_bs.append((g.T @ h).to(ctx.precision).mul_(scale))
        of_as = torch.split((k.T @ rows).to(ctx.precision), [up.shape[1] for up in ups])
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = k @ downs
            for g, weight in zip(gs, weights, strict=True):
                of_x.addmm_(g, weight)
            of_x = of_x.view(*gradients[0].shape[:-1], rows.shape[1])
        of_layers = ((None, None, of_a, of_b) for of_a, of_b in zip(of_as, of_bs, strict=True))
        return of_x, None, *chain.from_iterable(of_layers)


def _split(hidden: torch.Tensor, ups: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Each layer's part of what lies side by side."""
    return torch.split(hidden, [up.shape[1] for up in ups], dim=1)


def answers(x: torch.Tensor, *layers: Any) -> Sequence[torch.Tensor]:
    """What layers say that are given the same x of shape (..., inputs), in the base's precision.

    In one step where all are plain: one adapter, switched on, without dropout.
    """
    if not all(isinstance(layer, FusedLinear) and layer.is_plain() for layer in layers):
        return [layer(x) for layer in layers]
    parts: list[torch.Tensor | None] = []
    for layer in layers:
        (name,), base = layer.active_adapters, layer.get_base_layer()
        parts += base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight
    scales = [layer.scaling[layer.active_adapters[0]] for layer in layers]
    with torch.autocast(x.device.type, enabled=False):  # the precision is chosen here
        found: tuple[torch.Tensor, ...] = _Adapted.apply(  # type: ignore[no-untyped-call]
            x.to(layers[0].get_base_layer().weight.dtype), scales, *parts
        )
    return found


class FusedLinear(Linear):  # type: ignore[misc]  # PEFT's classes have no types
    """PEFT's layer, faster where it is plain.

    Everything else, and all that is loaded, saved, scaled or merged, is PEFT's.
    """

    def forward(self, x: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        """The answer for x of shape (..., inputs)."""
        if arguments or named or not self.is_plain():
            answer: torch.Tensor = super().forward(x, *arguments, **named)
            return answer
        return answers(x, self)[0]

    def is_plain(self) -> bool:
        """Whether there is one adapter, switched on, and nothing but A and B."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return False
        (name,) = self.active_adapters
        return (
            name in self.lora_A
            and name not in self.lora_variant  # DoRA and its kind
            and not self.lora_bias[name]
            and isinstance(self.lora_dropout[name], torch.nn.Identity)
        )
