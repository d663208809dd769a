"""Adapters of the embedded base that were drawn, not trained: so strong that they are heard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from trainer.adapter import FILES
from trainer.base import Base

LAYERS, HIDDEN, INNER, RANK = (4, 29), 576, 1536, 4
"""An early layer, so that what was read under one release is nothing for another to go on from;
and the last one, which is heard."""


def draw_adapter(folder: Path, seed: int, base: Base) -> Path:
    """An adapter in PEFT's layout, so strong that it is heard."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK,
        "bias": "none", "target_modules": ["down_proj"],
        "base_model_name_or_path": base.name, "revision": None,
        "use_rslora": False, "use_dora": False, "modules_to_save": None, "rank_pattern": {},
        "alpha_pattern": {}, "fan_in_fan_out": False,
    }  # fmt: skip
    (folder / FILES[0]).write_text(json.dumps(config))
    weights = {}
    for layer in LAYERS:
        module = f"base_model.model.model.layers.{layer}.mlp.down_proj"
        a = 0.05 * random.standard_normal((RANK, INNER))
        b = (15 if layer == LAYERS[-1] else 1) * random.standard_normal((HIDDEN, RANK))
        weights |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    save_file({name: w.astype(np.float32) for name, w in weights.items()}, folder / FILES[1])
    return folder
