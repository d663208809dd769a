"""What can be seen of an adapter on this machine before Cloudflare is asked: every fault at once.

Cloudflare keeps a finetune for ever, broken or not, so nothing is uploaded that can be known to
fail. Changes nothing and asks nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from store.errors import Rejected
from trainer.adapter import FILES, adapter_hash
from trainer.targets.cloudflare.settings import CloudflareSettings, Quotas
from trainer.targets.cloudflare.weights import (
    Tensor,
    bytes_in_16_bits,
    sixteen_bits,
    tensors_of,
)
from trainer.targets.target import Delivery

CONFIG, WEIGHTS = FILES
RANK_SIDE = {"lora_A": 0, "lora_B": 1, "lora_embedding_A": 0, "lora_embedding_B": 1}
"""Which side of a matrix is its rank, by the part of its name that says what it is."""
RESERVED = "cf-public-"


def finetune_name(delivery: Delivery) -> str:
    """`<line>-<release>-<first of the hash>`: letters and digits in lower case, and hyphens."""
    letters = f"{delivery.line}-{delivery.release}-{delivery.adapter_hash[:8]}".lower()
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in letters)


def faults(delivery: Delivery, settings: CloudflareSettings) -> Iterator[str]:
    """What keeps a release from being served there, in words."""
    folder, name = Path(delivery.adapter), finetune_name(delivery)
    if name.startswith(RESERVED):
        yield f"names that begin with {RESERVED} are Cloudflare's own, and this is {name}"
    missing = [each for each in FILES if not (folder / each).is_file()]
    if missing:
        yield f"{folder} lacks {' and '.join(missing)}"
        return
    if adapter_hash(folder) != delivery.adapter_hash:
        yield f"{folder} is not the adapter that was evaluated"
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_bytes())
        yield from _of_config(config, settings)
        yield from _of_base(config, settings)
    except (ValueError, AttributeError):
        yield f"{CONFIG} is no JSON object"
    try:
        tensors = tensors_of(folder / WEIGHTS)
    except Rejected as error:
        yield error.message.rstrip(".")
        return
    yield from _of_names(tensors, settings)
    yield from _of_sizes(tensors, settings.quotas)
    yield from _of_numbers(folder / WEIGHTS, tensors)


def _of_config(config: Mapping[str, Any], settings: CloudflareSettings) -> Iterator[str]:
    if config.get("peft_type") != "LORA" or config.get("task_type") != "CAUSAL_LM":
        kind = f"{config.get('peft_type')} for {config.get('task_type')}"
        yield f"only LORA for CAUSAL_LM is served, this is {kind}"
    if config.get("use_dora"):
        yield "it is not served with DoRA (use_dora)"
    doubted = {
        "rslora": config.get("use_rslora"),
        "bias": config.get("bias", "none") != "none",
        "modules_to_save": config.get("modules_to_save"),
    }
    for feature, has_it in doubted.items():
        if has_it and feature not in settings.accept:
            yield _undocumented(feature)
    ranks = {"r": config.get("r"), **(config.get("rank_pattern") or {})}
    for where, rank in ranks.items():
        if not isinstance(rank, int) or rank > settings.quotas.max_rank:
            yield f"rank {rank} ({where}) is above {settings.quotas.max_rank}"
    said, expected = config.get("model_type"), settings.expects.model_type
    if said is not None and said != expected:
        yield f"{CONFIG} says model_type {said}, the model is {expected}"


def _of_base(config: Mapping[str, Any], settings: CloudflareSettings) -> Iterator[str]:
    trained_on = str(config.get("base_model_name_or_path"))
    if not settings.is_made_of(trained_on):
        yield (
            f"it was trained on {trained_on}, and {settings.model} is made of "
            f"{settings.expects.base} (targets.cloudflare.base says otherwise where that is wrong)"
        )


def _of_names(tensors: Mapping[str, Tensor], settings: CloudflareSettings) -> Iterator[str]:
    others = sorted(name for name in tensors if _side(name) is None)
    embeddings = sorted(n for n in tensors if "lora_embedding" in n or "embed_tokens" in n)
    if embeddings and "embeddings" not in settings.accept:
        yield _undocumented("embeddings") + f" ({embeddings[0]})"
    if others and "modules_to_save" not in settings.accept:
        yield f"{len(others)} tensors are no LoRA matrices, as {others[0]}"
    if not tensors:
        yield f"{WEIGHTS} holds no weights"


def _of_sizes(tensors: Mapping[str, Tensor], quotas: Quotas) -> Iterator[str]:
    ranks = {
        tensor.shape[side]: name
        for name, tensor in tensors.items()
        if (side := _side(name)) is not None and len(tensor.shape) == 2
    }
    if ranks and max(ranks) > quotas.max_rank:
        where = ranks[max(ranks)]
        yield f"{where} has rank {max(ranks)}, the highest is {quotas.max_rank} ({quotas.as_of})"
    size = bytes_in_16_bits(tensors)
    if size > quotas.max_adapter_bytes:
        yield (
            f"it has {size / 1e6:.0f} MB in 16 bits, {quotas.max_adapter_bytes / 1e6:.0f} MB are "
            f"taken ({quotas.as_of})"
        )


def _of_numbers(path: Path, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in tensors.items():
        try:
            sixteen_bits(path, tensor)
        except Rejected as error:
            yield f"{name}: {error.message}"


def _side(name: str) -> int | None:
    return next((side for part, side in RANK_SIDE.items() if part in name.split(".")), None)


def _undocumented(feature: str) -> str:
    return (
        f"whether {feature} is served stands nowhere "
        f'(targets.cloudflare.accept = ["{feature}"] tries it)'
    )
