"""What a base looks like from outside, and how large an adapter of it gets. Loads no torch.

Read from config.json, or from the keys at the head of a GGUF file: before anything is loaded,
and in the daemon, which holds no model.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from store.errors import Misconfigured
from store.records import Noun
from trainer.base import Base, config_file
from trainer.recipe import Recipe

GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text")
"""Families whose blocks are built like Llama's."""
GGUF_NAMES = {"gptneox": "gpt_neox"}  # where llama.cpp calls a family otherwise
SCALARS = {
    **dict(zip(range(8), ("B", "b", "H", "h", "I", "i", "f", "?"), strict=True)),
    **dict(zip(range(10, 13), ("Q", "q", "d"), strict=True)),
}
"""Format characters of `struct` by the type numbers of GGUF."""
STRING, ARRAY = 8, 9


class Shape(Noun, frozen=True, kw_only=True):
    """The sizes of a base that decide how large an adapter is."""

    model_type: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """A block's linear layers, as (in, out); none where the family is not known."""
        if self.model_type in GATED:
            queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
            return {
                "q_proj": (self.hidden, queries),
                "k_proj": (self.hidden, keys),
                "v_proj": (self.hidden, keys),
                "o_proj": (queries, self.hidden),
                "gate_proj": (self.hidden, self.intermediate),
                "up_proj": (self.hidden, self.intermediate),
                "down_proj": (self.intermediate, self.hidden),
            }
        if self.model_type == "gpt_neox":
            return {
                "query_key_value": (self.hidden, 3 * self.hidden),
                "dense": (self.hidden, self.hidden),
                "dense_h_to_4h": (self.hidden, self.intermediate),
                "dense_4h_to_h": (self.intermediate, self.hidden),
            }
        return {}

    def adapted(self, recipe: Recipe) -> dict[str, tuple[int, int]]:
        """Those of a block's linear layers that the recipe adapts. Raises Misconfigured."""
        if not self.modules or isinstance(recipe.lora_target_modules, str):
            return self.modules
        if unknown := sorted(set(recipe.lora_target_modules) - set(self.modules)):
            raise Misconfigured(
                f"trainer.recipe.lora_target_modules: a {self.model_type} base has no "
                f"{', '.join(unknown)}.",
                hint=f"Its linear layers: {', '.join(self.modules)}.",
            )
        return {name: self.modules[name] for name in recipe.lora_target_modules}

    def adapter_weights(self, recipe: Recipe) -> int | None:
        """How many numbers the saved adapter holds, exactly; None where the family is not known."""
        if not self.modules:
            return None
        sizes = self.adapted(recipe).values()
        block = sum(recipe.exported_rank * (before + after) for before, after in sizes)
        magnitudes = sum(after for _, after in sizes) if recipe.use_dora else 0
        return recipe.adapted_layers(self.layers) * (block + magnitudes)


def shape_of(base: Base) -> Shape:
    """The shape of a base, whose weights need not be here yet. Raises Misconfigured."""
    if base.kind == "gguf":
        return _of_gguf(Path(base.location))
    return shape_of_config(config_file(base))


def shape_of_config(path: Path) -> Shape:
    """The shape that a config.json tells. Raises Misconfigured."""
    try:
        config: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        heads = config["num_attention_heads"]
        return Shape(
            model_type=config["model_type"],
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_size=config.get("head_dim") or config["hidden_size"] // heads,
        )
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, KeyError, TypeError, ZeroDivisionError) as error:
        raise Misconfigured(
            f"{path} does not describe a language model that we know how to read "
            f"({type(error).__name__}: {error})."
        ) from error


def _of_gguf(path: Path) -> Shape:
    try:
        keys = _gguf_keys(path)
        family = keys["general.architecture"]
        heads = keys[f"{family}.attention.head_count"]
        hidden = keys[f"{family}.embedding_length"]
        return Shape(
            model_type=GGUF_NAMES.get(family, family),
            layers=keys[f"{family}.block_count"],
            hidden=hidden,
            intermediate=keys[f"{family}.feed_forward_length"],
            heads=heads,
            kv_heads=keys.get(f"{family}.attention.head_count_kv", heads),
            head_size=keys.get(f"{family}.attention.key_length", hidden // heads),
        )
    except (OSError, KeyError, struct.error, UnicodeDecodeError, ZeroDivisionError) as error:
        raise Misconfigured(
            f"{path} is not a GGUF model that we know how to read "
            f"({type(error).__name__}: {error})."
        ) from error


def _gguf_keys(path: Path) -> Mapping[str, Any]:
    """The keys before the tokenizer's, which come last and are most of the file's head.

    The library's reader takes 3 s and 170 MB for the embedded base, the daemon has neither.
    """
    keys: dict[str, Any] = {}
    with path.open("rb") as file:
        magic, _version, _tensors, count = struct.unpack("<4sIQQ", file.read(24))
        if magic != b"GGUF":
            raise KeyError("no GGUF magic")
        for _ in range(count):
            name = _string(file)
            (kind,) = struct.unpack("<I", file.read(4))
            if name.startswith("tokenizer."):
                break
            keys[name] = _value(file, kind)
    return keys


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    return file.read(length).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _string(file)
    if kind == ARRAY:
        inner, length = struct.unpack("<IQ", file.read(12))
        return [_value(file, inner) for _ in range(length)]
    form = f"<{SCALARS[kind]}"
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
