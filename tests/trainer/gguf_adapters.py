"""Adapters of random numbers, written as PEFT writes them, of bases that are a config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from trainer.base import Base

Matrix = NDArray[np.float32]

HIDDEN, HEADS, KV_HEADS, HEAD_SIZE, INTERMEDIATE, LAYERS = 64, 4, 2, 16, 96, 2
SIZES = {
    "self_attn.q_proj": (HIDDEN, HEADS * HEAD_SIZE),
    "self_attn.k_proj": (HIDDEN, KV_HEADS * HEAD_SIZE),
    "self_attn.v_proj": (HIDDEN, KV_HEADS * HEAD_SIZE),
    "self_attn.o_proj": (HEADS * HEAD_SIZE, HIDDEN),
    "mlp.gate_proj": (HIDDEN, INTERMEDIATE),
    "mlp.up_proj": (HIDDEN, INTERMEDIATE),
    "mlp.down_proj": (INTERMEDIATE, HIDDEN),
}
NEOX_SIZES = {
    "attention.query_key_value": (HIDDEN, 3 * HIDDEN),
    "attention.dense": (HIDDEN, HIDDEN),
    "mlp.dense_h_to_4h": (HIDDEN, INTERMEDIATE),
    "mlp.dense_4h_to_h": (INTERMEDIATE, HIDDEN),
}
RANK, ALPHA = 4, 6
ONE = "base_model.model.model.layers.0.self_attn.q_proj"
"""The beginning of the names of one module's halves."""


def modules(family: str) -> dict[str, tuple[int, int]]:
    """All linear layers of the family's blocks by transformers' names, with (in, out)."""
    neox = family == "gpt_neox"
    prefix = "gpt_neox.layers" if neox else "model.layers"
    return {
        f"{prefix}.{layer}.{inner}": size
        for layer in range(LAYERS)
        for inner, size in (NEOX_SIZES if neox else SIZES).items()
    }


def make_base(folder: Path, family: str = "llama") -> Base:
    """A base of which there is no more than its shape."""
    folder.mkdir()
    config = {
        "model_type": family,
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS if family == "gpt_neox" else KV_HEADS,
        "head_dim": HEAD_SIZE,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return Base(name=str(folder), kind="folder", location=str(folder), hash="0" * 64)


def random_weights(family: str = "llama", rank: int = RANK) -> dict[str, Matrix]:
    """Both halves of every linear layer, under PEFT's names."""
    chance = np.random.default_rng(1)
    weights = {}
    for module, (size_in, size_out) in modules(family).items():
        name = f"base_model.model.{module}"
        weights[f"{name}.lora_A.weight"] = chance.standard_normal((rank, size_in), np.float32)
        weights[f"{name}.lora_B.weight"] = chance.standard_normal((size_out, rank), np.float32)
    return weights


def make_adapter(
    folder: Path, base: Base, weights: dict[str, Any] | None = None, **config: Any
) -> Path:
    """An adapter folder of this base; with other weights or other lines of its configuration."""
    folder.mkdir()
    plain = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
    about = {"base_model_name_or_path": base.name, "revision": None}
    (folder / "adapter_config.json").write_text(json.dumps(plain | about | config))
    save_file(
        random_weights() if weights is None else weights, folder / "adapter_model.safetensors"
    )
    return folder
