"""A layer and its adapter in one step: what PEFT computes, and PEFT wherever it is not plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear

from trainer.base import Base
from trainer.fused import linear
from trainer.fused.linear import FusedLinear
from trainer.model import as_base, for_training
from trainer.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

NAMES = ("lora_A", "lora_B")


class Body(torch.nn.Module):
    """One linear layer."""

    def __init__(self, *, bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(12, 20, bias=bias, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the layer says."""
        answer: torch.Tensor = self.layer(x)
        return answer


def body(*, fused: bool, bias: bool = False, dtype: Any = torch.float32, **changes: Any) -> Any:
    """The same weights with the fused layer and with PEFT's."""
    torch.manual_seed(0)
    plain = Body(bias=bias, dtype=dtype)
    config = LoraConfig(r=4, target_modules=["layer"], init_lora_weights=False, **changes)
    if fused:
        config._register_custom_module({torch.nn.Linear: FusedLinear})
    model = get_peft_model(plain, config)
    assert isinstance(model.base_model.model.layer, FusedLinear) is fused
    return model


def given(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Two rows of seven positions."""
    torch.manual_seed(2)
    return torch.randn(2, 7, 12, dtype=dtype).requires_grad_()


def answered(model: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The answer, and the gradients of its squares."""
    y = model(x)
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(y.float().square().sum(), [x, *weights.values()])
    return {"y": y.detach(), "x": gradients[0]} | dict(zip(weights, gradients[1:], strict=True))


def distance(tensors: dict[str, torch.Tensor]) -> float:
    """Their norm, as one vector."""
    return float(torch.cat([t.flatten() for t in tensors.values()]).norm())


@pytest.mark.parametrize(
    "changes",
    [{}, {"bias": True}, {"lora_alpha": 3}, {"use_rslora": True}],
    ids=["plain", "bias", "alpha", "rslora"],
)
def test_answers_and_gradients_are_pefts(changes: dict[str, Any]) -> None:
    """In float32, where rounding hides nothing."""
    ours = answered(body(fused=True, **changes), given())
    theirs = answered(body(fused=False, **changes), given())
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-5)


def test_the_gradient_is_the_slope() -> None:
    """By differences, in float64."""
    model = body(fused=True, bias=True, dtype=torch.float64).to(torch.float64)
    layer = model.base_model.model.layer
    inputs = (given(torch.float64), *(getattr(layer, n)["default"].weight for n in NAMES))

    def of(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        base = layer.get_base_layer()
        y: torch.Tensor = linear._Adapted.apply(x, [0.5], base.weight, base.bias, a, b)[0]
        return y

    assert torch.autograd.gradcheck(of, inputs)


class Three(torch.nn.Module):
    """Three layers of one input, one of them with a bias, one narrower."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = torch.nn.Linear(12, 20), torch.nn.Linear(12, 8, bias=False)
        self.v = torch.nn.Linear(12, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All that they say, side by side."""
        return torch.cat(list(linear.answers(x, self.q, self.k, self.v)), dim=-1)


def three(adapted: list[str], **changes: Any) -> Any:
    """The same weights, some of the layers adapted."""
    torch.manual_seed(0)
    plain = Three()
    config = LoraConfig(r=4, target_modules=adapted, init_lora_weights=False, **changes)
    config._register_custom_module({torch.nn.Linear: FusedLinear})
    return get_peft_model(plain, config)


@pytest.mark.parametrize(
    ("adapted", "changes"),
    [
        (["q", "k", "v"], {}),
        (["q", "k", "v"], {"rank_pattern": {"k": 2}, "alpha_pattern": {"v": 3}}),
        (["q", "v"], {}),
        (["q", "k", "v"], {"use_dora": True}),
    ],
    ids=["alike", "ranks", "one without", "dora"],
)
def test_layers_of_one_input_say_what_each_does_alone(
    adapted: list[str], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And have its gradients, where all are plain as where they are not."""
    together = answered(three(adapted, **changes), given())
    monkeypatch.setattr(linear, "answers", lambda x, *layers: [layer(x) for layer in layers])
    monkeypatch.setattr(FusedLinear, "is_plain", lambda _: False)
    alone = answered(three(adapted, **changes), given())
    assert together.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-5, atol=1e-5)


def test_bfloat16_loses_no_more_than_pefts_does() -> None:
    """Against float32, over the whole gradient."""
    exact = answered(body(fused=False), given())

    def lost(*, fused: bool) -> float:
        model = body(fused=fused)
        model.base_model.model.layer.get_base_layer().to(torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            found = answered(model, given())
        return distance({n: t.float() - exact[n] for n, t in found.items()})

    assert 0 < lost(fused=True) < max(1.2 * lost(fused=False), 0.01 * distance(exact))


@pytest.mark.parametrize(
    "changes", [{"use_dora": True}, {"lora_dropout": 0.5}], ids=["dora", "dropout"]
)
def test_what_is_not_plain_is_pefts(changes: dict[str, Any]) -> None:
    """To the bit: dropout draws as it would."""
    found = {}
    for fused in (True, False):
        model = body(fused=fused, **changes).train()
        torch.manual_seed(3)
        found[fused] = answered(model, given())
    for name, tensor in found[False].items():
        assert torch.equal(found[True][name], tensor)


def test_the_base_answers_where_the_adapter_is_off() -> None:
    """And where it is merged, the merged layer does."""
    model = body(fused=True)
    layer, x = model.base_model.model.layer, given()
    adapted = model(x)
    with model.disable_adapter():
        assert torch.equal(model(x), layer.get_base_layer()(x))
    layer.merge()
    torch.testing.assert_close(model(x), adapted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recipe", [{}, {"load_in_4bit": True}], ids=["whole", "4 bits"])
def test_a_training_uses_it_where_the_base_is_whole(
    tiny_base: Base, recipe: dict[str, Any]
) -> None:
    """Quantized layers are PEFT's, which knows how to read them."""
    model = for_training(Path(tiny_base.location), Recipe(lora_layer_share=1.0, **recipe))
    adapters = [m for m in model.modules() if hasattr(m, "lora_A")]
    assert adapters
    assert all(isinstance(m, FusedLinear) is (not recipe) for m in adapters)
    if not recipe:
        assert all(isinstance(m, Linear) for m in adapters)
    x = torch.arange(8)[None]
    with as_base(model), torch.inference_mode():
        first = model(x).logits
    with torch.inference_mode():
        assert torch.equal(model(x).logits, first)  # B begins at zero
