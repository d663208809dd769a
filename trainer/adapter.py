"""The adapter on disk: PEFT's layout, canonical, so that the same weights have the same hash."""

from __future__ import annotations

import json
import tempfile
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
    would give the same weights another hash on another day or machine. What began as PiSSA is
    saved as the plain LoRA of twice the rank that has the same effect on the whole base.
    """
    _save(model, folder)
    path = folder / FILES[0]
    config = json.loads(path.read_text())
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"], config["revision"] = _published(base)
    write_atomically(path, json.dumps(config, indent=2, sort_keys=True).encode() + b"\n")
    return adapter_hash(folder)


def _save(model: Any, folder: Path) -> None:
    start = getattr(model, "start", None)
    if start is None:
        model.save_pretrained(folder, safe_serialization=True)
        return
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".start-") as place:
        beginning = Path(place) / "start"  # PEFT loads it as an adapter of this name
        beginning.mkdir()
        save_file(start, beginning / FILES[1], metadata={"format": "pt"})
        model.save_pretrained(
            folder,
            safe_serialization=True,
            path_initial_model_for_weight_conversion=str(beginning),
        )


def _published(base: Base) -> tuple[str, str | None]:
    """(name, revision) as PEFT writes them: a hub base by its commit, so that others find it."""
    if base.kind != "hub":
        return base.name, None
    repository, _, commit = base.location.partition("@")
    return repository, commit
