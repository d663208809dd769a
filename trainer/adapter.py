"""The adapter on disk: PEFT's layout, canonical, so that the same weights have the same hash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from store.errors import IntegrityError
from trainer.base import Base, hash_files
from trainer.job import write_atomically

FILES = ("adapter_config.json", "adapter_model.safetensors")


def adapter_hash(folder: Path) -> str:
    """SHA-256 over the adapter's two files. Raises IntegrityError when one is missing."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise IntegrityError(f"The adapter in {folder} lacks {', '.join(missing)}.")
    return hash_files(folder / name for name in FILES)


def save(model: Any, folder: Path, base: Base) -> str:
    """Saves a PEFT model's adapter canonically and returns its hash.

    PEFT writes target_modules in set order and whatever path the base was loaded from: both
    would give the same weights another hash on another day or machine.
    """
    model.save_pretrained(folder, safe_serialization=True)
    path = folder / FILES[0]
    config = json.loads(path.read_text())
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = base.name
    write_atomically(path, json.dumps(config, indent=2, sort_keys=True).encode() + b"\n")
    return adapter_hash(folder)
