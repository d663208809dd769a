"""What a target can serve, checked before a night of training and not after it. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator

from store.errors import Misconfigured
from store.records import Noun
from trainer.recipe import Recipe
from trainer.shape import GATED, Shape


class Limits(Noun, frozen=True, kw_only=True):
    """What a target takes; None is no limit."""

    max_rank: int | None = None
    max_adapter_bytes: int | None = None
    bytes_per_weight: int = 4
    """As the target stores an adapter: 2 where it is converted to 16 bits."""
    model_types: tuple[str, ...] | None = None
    """Families of bases, as `model_type` in their config.json."""
    serves_dora: bool = True
    serves_rslora: bool = True


ANY = Limits()
"""Of a folder on this machine: whoever reads it uses PEFT."""

OLLAMA = Limits(
    model_types=(*GATED, "gpt_neox"),
    serves_dora=False,  # a GGUF adapter has no place for its magnitudes; rsLoRA is a scale
)
"""Through a GGUF adapter of our own writing, the one form that all versions since 2024 take: the
families whose rows llama.cpp reorders in a way that is known."""

CLOUDFLARE = Limits(
    max_rank=32,
    max_adapter_bytes=299_999_999,
    bytes_per_weight=2,
    model_types=("mistral", "gemma", "llama"),
    serves_dora=False,
    serves_rslora=False,  # neither is documented either way
)
"""Workers AI, by its documentation of 2026-04-21; older pages say rank 8 and 100 MB."""


def adapter_bytes(recipe: Recipe, shape: Shape, limits: Limits) -> int | None:
    """The weights of the adapter as the target stores them; None where the base is not known."""
    weights = shape.adapter_weights(recipe)
    return None if weights is None else weights * limits.bytes_per_weight


def require_servable(recipe: Recipe, shape: Shape, limits: Limits, target: str) -> None:
    """Raises Misconfigured with all that keeps this target from serving what would be trained."""
    if faults := list(_faults(recipe, shape, limits)):
        raise Misconfigured(
            f"{target} cannot serve what this recipe trains: {'; '.join(faults)}.",
            hint="Change trainer.recipe, trainer.base or trainer.target.",
        )


def _faults(recipe: Recipe, shape: Shape, limits: Limits) -> Iterator[str]:
    shape.adapted(recipe)  # raises for modules that the base has not
    if limits.model_types is not None and shape.model_type not in limits.model_types:
        yield f"its bases are {', '.join(limits.model_types)}, this one is {shape.model_type}"
    rank = recipe.exported_rank
    if limits.max_rank is not None and rank > limits.max_rank:
        doubled = " (PiSSA doubles lora_r)" if rank != recipe.lora_r else ""
        yield f"its highest rank is {limits.max_rank}, this adapter's is {rank}{doubled}"
    size = adapter_bytes(recipe, shape, limits)
    if (
        limits.max_adapter_bytes is not None
        and size is not None
        and size > limits.max_adapter_bytes
    ):
        yield (
            f"it takes {limits.max_adapter_bytes / 1e6:.0f} MB, this adapter has "
            f"{size / 1e6:.0f} MB: lower lora_r or lora_layer_share"
        )
    if recipe.use_dora and not limits.serves_dora:
        yield "it serves no DoRA (use_dora)"
    if recipe.use_rslora and not limits.serves_rslora:
        yield "it serves no rsLoRA (use_rslora)"
