"""Small whole models as GGUF files, as llama.cpp's convert_hf_to_gguf.py would write them.

Its rules for names, rows and norms are restated here, apart from ours: what trainer/gguf writes
is held against them, and against llama.cpp, which answers as the model only if they are right.
The vocabulary is the embedded base's.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import AutoConfig

from trainer.base import locate
from trainer.shape import Shape, shape_of_config

Matrix = NDArray[Any]

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gpt_neox": "gptneox",
}
NAMES = {
    "embed_tokens": "token_embd",
    "embed_in": "token_embd",
    "embed_out": "output",
    "lm_head": "output",
    "norm": "output_norm",
    "final_layer_norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "query_key_value": "attn_qkv",
    "dense": "attn_output",
    "dense_h_to_4h": "ffn_up",
    "dense_4h_to_h": "ffn_down",
}
GEMMA_NAMES = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
"""Of Gemma 2 and 3, which have four norms in a block."""


def permute(weights: Matrix, heads: int) -> Matrix:
    """LlamaModel.permute of convert_hf_to_gguf.py, for the rows of q and k."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def unfuse(weights: Matrix, heads: int) -> Matrix:
    """GPTNeoXModel.modify_tensors of the same, for query_key_value and its bias."""
    fused = weights.reshape(heads, 3, weights.shape[0] // heads // 3, *weights.shape[1:])
    return np.concatenate([fused[:, n].reshape(-1, *weights.shape[1:]) for n in range(3)], axis=0)


@cache
def _vocabulary() -> dict[str, Any]:
    """The tokenizer's keys of the embedded base."""
    reader = GGUFReader(locate("smollm2-135m").location)
    return {
        name: (field.contents(), field.types[0], field.types[-1] if field.types[1:] else None)
        for name, field in reader.fields.items()
        if name.startswith("tokenizer.")
    }


def write_base(folder: Path, path: Path, *, vocabulary: bool = True) -> Path:
    """A folder in Hugging Face layout as a GGUF file in float32; llama.cpp needs a vocabulary."""
    config = AutoConfig.from_pretrained(folder)
    shape = shape_of_config(folder / "config.json")
    family, architecture = config.model_type, ARCHITECTURES[config.model_type]
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_file_type(0)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_freq_base(_rope_base(config))
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if family == "gpt_neox":
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_parallel_residual(config.use_parallel_residual)
        writer.add_rope_dimension_count(int(config.rope_parameters["partial_rotary_factor"] * size))
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(size)
        writer.add_value_length(size)
        writer.add_rope_dimension_count(size)
    if family in ("gemma2", "gemma3_text"):
        writer.add_sliding_window(config.sliding_window)
    if family == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    for name, value in _vocabulary().items() if vocabulary else ():
        writer.add_key_value(name, *value)
    for name, weight in load_file(folder / "model.safetensors").items():
        if not (name.startswith("lm_head") and config.tie_word_embeddings):
            gguf_name, rows = converted(name, weight, shape)
            writer.add_tensor(gguf_name, np.ascontiguousarray(rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _rope_base(config: Any) -> float:
    parameters = config.rope_parameters
    return float(parameters.get("full_attention", parameters)["rope_theta"])


def converted(name: str, weight: Matrix, shape: Shape) -> tuple[str, Matrix]:
    """What llama.cpp calls a weight of a model of this shape, and how it keeps it."""
    *_, module, kind = name.split(".")
    family, block = shape.model_type, re.search(r"layers\.(\d+)\.", name)
    names = NAMES | (GEMMA_NAMES if family in ("gemma2", "gemma3_text") else {})
    if family.startswith("gemma") and module.endswith("norm"):
        weight = weight + 1
    if ARCHITECTURES[family] == "llama" and module == "q_proj":
        weight = permute(weight, shape.heads)
    if ARCHITECTURES[family] == "llama" and module == "k_proj":
        weight = permute(weight, shape.kv_heads)
    if module == "query_key_value":
        weight = unfuse(weight, shape.heads)
    prefix = f"blk.{block[1]}." if block else ""
    return f"{prefix}{names[module]}.{kind}", weight
