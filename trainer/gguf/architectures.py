"""What llama.cpp calls the linear layers of each family, and in which order it keeps their rows.

Its converter reorders rows of some base weights, for a faster rotary embedding or to split fused
matrices. An adapter adds to those rows, so its B must be reordered alike: of SmolLM2 with rows
as PEFT has them not one greedy token in eight was right, as with no adapter at all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trainer.shape import GATED, Shape

Rows = NDArray[np.intp]
"""Which row of PEFT's matrix each row of llama.cpp's is."""

_GATED_BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NEOX_BLOCK = {
    "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
}

ARCHITECTURES = {
    "mistral": "llama",  # llama.cpp keeps Mistral as a Llama
    "gemma3_text": "gemma3",
    "gpt_neox": "gptneox",
} | {family: family for family in GATED if family not in ("mistral", "gemma3_text")}
"""llama.cpp's name of a family, by `model_type` of its config.json."""


def block_of(model_type: str) -> dict[str, str]:
    """llama.cpp's names of a block's linear layers, by transformers' names within the block."""
    return _NEOX_BLOCK if model_type == "gpt_neox" else _GATED_BLOCK


def layers_of(model_type: str) -> str:
    """Where transformers keeps the family's blocks."""
    return "gpt_neox.layers" if model_type == "gpt_neox" else "model.layers"


def _rotated(heads: int, shape: Shape) -> Rows:
    """A head's rows: transformers has first all real parts, then all imaginary; llama.cpp pairs."""
    rows = np.arange(heads * shape.head_size).reshape(heads, 2, shape.head_size // 2)
    return rows.swapaxes(1, 2).ravel()


def _split(shape: Shape) -> Rows:
    """Fused rows: transformers has query, key, value head by head; llama.cpp all queries first."""
    rows = np.arange(3 * shape.hidden).reshape(shape.heads, 3, shape.head_size)
    return rows.swapaxes(0, 1).ravel()


_REORDERED: dict[tuple[str, str], Callable[[Shape], Rows]] = {
    ("llama", "attn_q"): lambda shape: _rotated(shape.heads, shape),
    ("llama", "attn_k"): lambda shape: _rotated(shape.kv_heads, shape),
    ("gptneox", "attn_qkv"): _split,
}


def row_order(shape: Shape, name: str) -> Rows | None:
    """The order of the rows of a block's linear layer, such as attn_q; None: as PEFT has them."""
    order = _REORDERED.get((ARCHITECTURES[shape.model_type], name))
    return None if order is None else order(shape)
