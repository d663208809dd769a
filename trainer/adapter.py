"""The adapter on disk: PEFT's layout, canonical, so that the same weights have the same hash."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from store.errors import IntegrityError, Rejected
from store.records import Identifier, Noun
from trainer.base import Base, hash_files
from trainer.job import write_atomically
from trainer.recipe import Recipe

FILES = ("adapter_config.json", "adapter_model.safetensors")


def adapter_hash(folder: Path) -> str:
    """SHA-256 over the adapter's two files. Raises IntegrityError when one is missing."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise IntegrityError(f"The adapter in {folder} lacks {', '.join(missing)}.")
    return hash_files(folder / name for name in FILES)


class Parent(Noun, frozen=True, kw_only=True):
    """The release whose adapter a training goes on with."""

    release: Identifier
    adapter: str
    """Its folder."""
    adapter_hash: str


def require_alike(recipe: Recipe, parent: Parent) -> None:
    """Raises Rejected where the recipe's adapter has another shape than the parent's.

    And IntegrityError where that one's bytes changed. Which modules of which layers are adapted is
    looked at by `begin_with`, when the base is there.
    """
    folder = Path(parent.adapter)
    if adapter_hash(folder) != parent.adapter_hash:
        raise IntegrityError(f"{folder} is not the adapter of {parent.release} any more.")
    if recipe.init_lora_weights == "pissa":
        raise Rejected(
            "init_lora_weights pissa begins with the base's own weights, not with a parent's.",
            hint="Set it to default, or name no parent.",
        )
    config = json.loads((folder / FILES[0]).read_bytes())
    asked: dict[str, Any] = {
        "r": recipe.lora_r,
        "lora_alpha": recipe.lora_alpha,
        "use_rslora": recipe.use_rslora,
        "use_dora": recipe.use_dora,
    }
    if not isinstance(recipe.lora_target_modules, str):
        asked["target_modules"] = sorted(recipe.lora_target_modules)
    other = [
        f"{name} {config.get(name)}, not {value}"
        for name, value in asked.items()
        if config.get(name) != value
    ]
    if other:
        raise Rejected(
            f"The parent {parent.release} has another shape than the recipe asks for: "
            f"{'; '.join(other)}.",
            hint="Give the line the parent's values in its recipe, or name no parent.",
        )


def begin_with(model: Any, parent: Parent) -> None:
    """Gives a PEFT model the parent's weights in place of fresh ones.

    Raises Rejected where the parent adapts other modules or layers.
    """
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    weights = load_file(Path(parent.adapter) / FILES[1])
    fresh = get_peft_model_state_dict(model)
    if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in fresh.items()}:
        raise Rejected(
            f"The parent {parent.release} adapts other layers or modules than the recipe does: it "
            f"has {len(weights)} matrices, the recipe gives {len(fresh)}.",
            hint="Give the line the parent's lora_layer_share and lora_target_modules.",
        )
    set_peft_model_state_dict(model, weights)


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


def require_base(folder: Path, base: Base) -> None:
    """Raises IntegrityError where the adapter says that it was trained on another base."""
    config = json.loads((folder / FILES[0]).read_text())
    said = (config.get("base_model_name_or_path"), config.get("revision"))
    if said != _published(base):
        raise IntegrityError(
            f"The adapter in {folder} belongs to the base {said[0]}, not to {base.name}."
        )


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
