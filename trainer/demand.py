"""What memory a training asks for, by the base's files and the recipe. Loads no torch."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from store.errors import Misconfigured
from store.records import Noun
from trainer.memory import Thrift
from trainer.recipe import Recipe
from trainer.shape import Shape, shape_of_config

HEADROOM = 1.15
"""What allocators, fragments and everything too small to count take on top."""
ADAPTER_BYTES = {
    "adamw_torch": 16,
    "paged_adamw_32bit": 16,
    "adamw_8bit": 10,
    "paged_adamw_8bit": 10,
}
"""For each number of the adapter: itself and its gradient in float32, and Adam's two moments."""
HEAD_POSITIONS = 512
"""Whose logits are held together (trainer/fused/head.py)."""
MOMENT_BYTES = 8
"""Of those, what a first backward pass has not allocated yet: the moments in float32."""


class Worst(Noun, frozen=True, kw_only=True):
    """The longest sequences that the dataset can put into one micro-batch."""

    length: int
    supervised: int
    """Positions with loss, at most, in one sequence."""


class Weights(Noun, frozen=True, kw_only=True):
    """How many numbers a base holds, by what quantization does to them."""

    linear: int
    """Of the blocks' matrices, which may be quantized."""
    other: int
    """Embeddings, head and norms, which are not."""
    vocabulary: int


def weights_of(folder: Path) -> Weights:
    """From the headers of the folder's safetensors files. Raises Misconfigured."""
    linear = other = vocabulary = 0
    for path in sorted(folder.glob("*.safetensors")):
        for name, entry in _header(path).items():
            if name == "__metadata__":
                continue
            count = 1
            for size in entry["shape"]:
                count *= size
            if ".layers." in f".{name}" and len(entry["shape"]) > 1:
                linear += count
            else:
                other += count
                if len(entry["shape"]) == 2:  # embeddings or head: a row for each token
                    vocabulary = max(vocabulary, entry["shape"][0])
    if not linear:
        raise Misconfigured(f"{folder} holds no safetensors weights of a language model.")
    return Weights(linear=linear, other=other, vocabulary=vocabulary)


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = msgspec.json.decode(file.read(length))
            return header
    except (struct.error, msgspec.DecodeError) as error:
        raise Misconfigured(f"{path} is no safetensors file.") from error


class Demand(Noun, frozen=True, kw_only=True):
    """What a run asks of the memory, before its knobs are set."""

    recipe: Recipe
    shape: Shape
    weights: Weights
    worst: Worst
    width: int
    """Bytes of a number in the compute dtype."""
    answers: int = 1
    """Sequences in a row of the dataset: a pair has two."""

    def base_bytes(self) -> float:
        """The frozen base as it is loaded."""
        linear, other = self.weights.linear, self.weights.other
        if self.recipe.load_in_4bit:
            scales = 0.127 if self.recipe.bnb_4bit_use_double_quant else 0.5  # bits a weight
            return linear * (4 + scales) / 8 + other * 4  # PEFT raises the rest to float32
        if self.recipe.load_in_8bit:
            return linear * 1.01 + other * 4
        return (linear + other) * self.width

    def adapter_bytes(self) -> float:
        """The adapter in training: weights, gradients, moments."""
        return self.trained_weights() * ADAPTER_BYTES[self.recipe.optim]

    def trained_weights(self) -> int:
        """Numbers that are trained, exactly where the family is known."""
        shape, recipe = self._known()
        return shape.adapter_weights(recipe) or 0

    def _known(self) -> tuple[Shape, Recipe]:
        """A family that is not known is taken to be like Llama, adapted everywhere."""
        recipe = replace(self.recipe, init_lora_weights="default")  # doubled at its export only
        if self.shape.modules:
            return self.shape, recipe
        return (
            replace(self.shape, model_type="llama"),
            replace(recipe, lora_target_modules="all-linear"),
        )

    def activation_bytes(self, thrift: Thrift) -> float:
        """What the backward pass needs of the forward pass, in the layers that it reaches.

        Counted by what autograd keeps: of Llama's blocks norms in float32 and the rest in the
        compute dtype, of GPT-NeoX's less, and with dropout each module's own input. Where Llama's
        steps are fused (trainer/fused) it is a fifth less.
        """
        tokens = thrift.micro_batch_size * self.answers * self.worst.length
        layers = self.recipe.adapted_layers(self.shape.layers)
        # A quantized base has its embeddings in float32, so that half of what follows is.
        width = (4 + self.width) / 2 if self.recipe.is_quantized else self.width
        hidden, intermediate = self.shape.hidden, self.shape.intermediate
        if self.shape.model_type == "gpt_neox":
            layer = tokens * width * (10 * hidden + 2 * intermediate)
        else:
            layer = tokens * ((25 + 2 * width) * hidden + 4 * width * intermediate)
        if self.recipe.lora_dropout:
            shape, recipe = self._known()
            layer += tokens * 4 * sum(before for before, _ in shape.adapted(recipe).values())
        if thrift.activation_checkpointing:
            return layer + layers * tokens * hidden * width
        return layers * layer

    def head_bytes(self, thrift: Thrift) -> float:
        """The logits of supervised positions: some at a time, or of all, as TRL holds them.

        There with their gradient, and both in float32, too.
        """
        positions = thrift.micro_batch_size * self.answers * self.worst.supervised
        if self.recipe.method == "sft":
            return min(positions, HEAD_POSITIONS) * self.weights.vocabulary * self.width
        return positions * self.weights.vocabulary * (2 * self.width + 8)

    def estimate(self, thrift: Thrift) -> int:
        """Bytes at the peak of a worst step."""
        parts = (
            self.base_bytes(),
            self.adapter_bytes(),
            self.activation_bytes(thrift),
            self.head_bytes(thrift),
        )
        return int(HEADROOM * sum(parts))


def demand(
    recipe: Recipe,
    folder: Path,
    lengths: Sequence[tuple[int, int]],
    width: int,
    answers: int = 1,
) -> Demand:
    """Of a run over sequences of these (tokens, supervised tokens), on the base in a folder."""
    return Demand(
        recipe=recipe,
        shape=shape_of_config(folder / "config.json"),
        weights=weights_of(folder),
        worst=Worst(
            length=max(tokens for tokens, _ in lengths),
            supervised=max(supervised for _, supervised in lengths),
        ),
        width=width,
        answers=answers,
    )
