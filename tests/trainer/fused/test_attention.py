"""Attention in one step: transformers' eager one, with heads that share keys and with pads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from trainer.fused import attention
from trainer.fused.blocks import fuse

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch")

NEAR = {"rtol": 1e-4, "atol": 1e-5}
"""In float32: where rounding hides little."""
WORDS, LENGTHS = 60, (9, 5, 1)


def model(
    kind: Any = LlamaConfig, *, shared: int = 2, dtype: Any = torch.float32, **changes: Any
) -> Any:
    """A tiny Llama, or its like, with eager attention and four heads, frozen."""
    torch.manual_seed(0)
    config = kind(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=shared,
        attn_implementation="eager",
        **changes,
    )
    of = AutoModelForCausalLM.from_config(config)
    return of.to(dtype).eval().requires_grad_(False)


def batch() -> dict[str, torch.Tensor]:
    """Rows of three lengths, padded on the right."""
    torch.manual_seed(1)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    return {"input_ids": torch.randint(0, WORDS, mask.shape) * mask, "attention_mask": mask}


def answered(of: Any, attention_mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits where there are words, and the embeddings' gradient of their weighted sum."""
    given = batch()
    x = of.get_input_embeddings()(given["input_ids"]).detach().requires_grad_()
    logits = of(inputs_embeds=x, attention_mask=attention_mask, use_cache=False).logits
    logits = logits[given["attention_mask"].bool()]
    torch.manual_seed(2)
    (gradient,) = torch.autograd.grad((logits * torch.randn_like(logits)).sum(), x)
    return logits.detach(), gradient


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (LlamaConfig, {"shared": 4}),
        (LlamaConfig, {"shared": 2}),
        (LlamaConfig, {"shared": 1, "attention_bias": True, "head_dim": 6}),
        (MistralConfig, {"sliding_window": 3}),
    ],
    ids=["a key a head", "shared", "one for all", "window"],
)
@pytest.mark.parametrize("masked", [True, False])
def test_answers_and_gradients_are_transformers(
    kind: Any, changes: dict[str, Any], masked: bool
) -> None:
    """Of all that is like Llama."""
    mask = batch()["attention_mask"] if masked else None
    theirs, ours = model(kind, **changes), model(kind, **changes)
    fuse(ours)
    assert all("forward" in vars(layer.self_attn) for layer in ours.model.layers)
    for found, expected in zip(answered(ours, mask), answered(theirs, mask), strict=True):
        torch.testing.assert_close(found, expected, **NEAR)


def test_the_gradient_is_the_slope() -> None:
    """By differences, in float64."""
    torch.manual_seed(4)
    q, k, v = (
        torch.randn(2, 5, heads, 6, dtype=torch.float64).requires_grad_() for heads in (4, 2, 2)
    )
    angles = torch.rand(1, 5, 3, dtype=torch.float64).repeat(1, 1, 2)
    mask = torch.full((2, 1, 5, 5), -1e9, dtype=torch.float64).triu_(1)

    def of(*tensors: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = attention._Attention.apply(
            *tensors, angles.cos(), angles.sin(), mask, 0.3
        )
        return y

    assert torch.autograd.gradcheck(of, (q, k, v))


def test_bfloat16_loses_no_more_than_transformers_does() -> None:
    """Answers and gradient, against float32's."""
    mask = batch()["attention_mask"]
    ours, theirs = model(dtype=torch.bfloat16), model(dtype=torch.bfloat16)
    fuse(ours)
    exact = answered(model(), mask)
    lost = [
        [
            float((found.float() - right).norm())
            for found, right in zip(answered(of, mask), exact, strict=True)
        ]
        for of in (ours, theirs)
    ]
    assert all(0 < mine < 1.3 * other for mine, other in zip(*lost, strict=True))


def test_an_answer_is_generated_as_before() -> None:
    """With a cache it is transformers' own, also of rows that are padded on the left."""
    theirs, ours = model(), model()
    fuse(ours)
    given = {name: tensor.flip(1) for name, tensor in batch().items()}
    wanted = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(ours.generate(**given, **wanted), theirs.generate(**given, **wanted))


def test_with_dropout_it_is_transformers_own() -> None:
    """To the bit: it draws as it would."""
    theirs, ours = (model(attention_dropout=0.5).train() for _ in range(2))
    fuse(ours)
    found = []
    for of in (ours, theirs):
        torch.manual_seed(3)
        found.append(of(**batch(), use_cache=False).logits)
    torch.testing.assert_close(*found, **NEAR)


def test_other_attention_and_other_families_keep_their_own() -> None:
    """What is not eager is not replaced, nor what is called otherwise."""
    of = model()
    of.config._attn_implementation = "sdpa"
    of.model.norm.__class__ = type("OtherNorm", (type(of.model.norm),), {})
    fuse(of)
    fused = {type(m).__name__ for m in of.modules() if "forward" in vars(m)}
    assert fused == {"LlamaRMSNorm", "LlamaMLP"}
    assert "forward" not in vars(of.model.norm)
