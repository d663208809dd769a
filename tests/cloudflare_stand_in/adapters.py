"""Small adapters that Cloudflare's limits and formats allow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from trainer.adapter import FILES

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "use_dora": False,
    "use_rslora": False,
    "modules_to_save": None,
    "rank_pattern": {},
}
PLACE = "base_model.model.model.layers.0.self_attn"
Matrices = Mapping[str, np.ndarray[Any, Any]]


def matrices(rank: int = 4, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Of one layer's attention, in float32."""
    chance = np.random.default_rng(seed)
    return {
        f"{PLACE}.{module}.lora_{side}.weight": chance.normal(0, 0.02, shape).astype(np.float32)
        for module in ("q_proj", "v_proj")
        for side, shape in (("A", (rank, 16)), ("B", (16, rank)))
    }


def write_lora(folder: Path, weights: Matrices | None = None, **config: Any) -> Path:
    """An adapter in PEFT's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILES[0]).write_text(json.dumps(CONFIG | config))
    save_file(dict(weights or matrices()), folder / FILES[1], metadata={"format": "pt"})
    return folder
