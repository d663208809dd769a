"""Operations on an adapter's files that need no training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from trainer.adapter import FILES
from trainer.base import Base
from trainer.model import load

CONFIG, WEIGHTS = FILES
INTO_HIDDEN = ("o_proj", "down_proj")
"""Layers that write into the hidden state; the others read from it."""


def write_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """A folder that is there only when it is whole."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    partial.rename(folder)


def merge(base: Base, cache: Path, adapter: Path, to: Path) -> None:
    """The base with the adapter in its weights, in Hugging Face layout."""
    model, tokenizer = load(base, cache, adapter, dtype=torch.float32)
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)


def side_by_side(first: Path, second: Path, to: Path) -> None:
    """One adapter that has the effect of both: B1 A1 + B2 A2 is [B1 B2] [A1; A2]."""
    one, other = _read(first), _read(second)
    scale = [_config(f)["lora_alpha"] / _config(f)["r"] for f in (first, second)]
    joined: dict[str, torch.Tensor] = {}
    for name, weight in one.items():
        along = 0 if "lora_A" in name else 1
        more = other[name] if along == 0 else other[name] * (scale[1] / scale[0])
        joined[name] = torch.cat([weight, more], dim=along).contiguous()
    config = _config(first)
    config["r"] += _config(second)["r"]
    config["lora_alpha"] = scale[0] * config["r"]
    _write(to, joined, config)


def without_effect(adapter: Path, to: Path) -> None:
    """Every B is zero: the adapter was never applied."""
    weights = _read(adapter)
    zeroed = {n: torch.zeros_like(w) if "lora_B" in n else w for n, w in weights.items()}
    _write(to, zeroed, _config(adapter))


def not_a_number(adapter: Path, to: Path) -> None:
    """One weight in one layer is not a number."""
    weights = _read(adapter)
    name = sorted(n for n in weights if "lora_B" in n)[-1]
    weights[name][0, 0] = float("nan")
    _write(to, weights, _config(adapter))


def of_another_name(adapter: Path, to: Path) -> None:
    """The same weights, whose configuration says that they are of another base."""
    other = {"base_model_name_or_path": "another/base", "revision": "0" * 40}
    _write(to, _read(adapter), _config(adapter) | other)


def of_shuffled_base(adapter: Path, to: Path) -> None:
    """The weights that the same training gives on a base whose hidden units are ordered otherwise.

    Such a base answers as ours does; by symmetry its adapter is ours with the hidden side of every
    matrix in the other order. On our base it means nothing.
    """
    weights = _read(adapter)
    hidden = next(w.shape[1] for n, w in weights.items() if "q_proj.lora_A" in n)
    order = torch.randperm(hidden, generator=torch.Generator().manual_seed(1))
    shuffled: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        writes = any(layer in name for layer in INTO_HIDDEN)
        if writes and "lora_B" in name:
            shuffled[name] = weight[order].contiguous()
        elif not writes and "lora_A" in name:
            shuffled[name] = weight[:, order].contiguous()
        else:
            shuffled[name] = weight
    _write(to, shuffled, _config(adapter))


def _read(adapter: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(adapter / WEIGHTS))


def _config(adapter: Path) -> dict[str, Any]:
    return json.loads((adapter / CONFIG).read_text())


def _write(to: Path, weights: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    save_file(weights, to / WEIGHTS, metadata={"format": "pt"})
    (to / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
