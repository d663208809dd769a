"""The guard families, and which bytes a configured guard is. Loads no torch.

A new family is one file with a FAMILY and one line in FAMILIES, and its name in GuardSettings.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from functools import cache
from pathlib import Path

from scorers.guards import granite_guardian, llama_guard, qwen3guard, shieldgemma, wildguard
from scorers.guards.family import Family
from scorers.settings import GuardSettings, PanelSettings
from store.errors import Misconfigured
from store.records import digest

FAMILIES: dict[str, Family] = {
    "llama-guard": llama_guard.FAMILY,
    "granite-guardian": granite_guardian.FAMILY,
    "qwen3guard": qwen3guard.FAMILY,
    "wildguard": wildguard.FAMILY,
    "shieldgemma": shieldgemma.FAMILY,
}

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
SAMPLES, SAMPLE_BYTES = 256, 4_096
"""Of a weights file: all of it, each time that the version is asked for, would be gigabytes."""


def version(settings: PanelSettings) -> str:
    """A prefix of the digest of all that can change what the guard says; needs no torch, no hub.

    Of a local folder that is the content of its configuration and tokenizer, and samples of its
    weights; of a hub id its revision. Raises Misconfigured when no usable model is named.
    """
    guard = settings.guard
    local = folder(guard)
    return digest(
        {
            "family": guard.family,
            "code": _code(guard.family),
            "model": guard.model if local is None else fingerprint(local),
            "revision": guard.revision if local is None else "",
            "dtype": guard.dtype,
            "most_tokens": guard.most_tokens,
            "least_mass": float(guard.least_mass),  # 0 and 0.0 are one setting
            "criteria": guard.criteria,
        }
    )[:12]


def folder(guard: GuardSettings) -> Path | None:
    """Where the model lies on this machine, or None for a hub id. Raises Misconfigured."""
    if not guard.model:
        raise Misconfigured(
            "panel.scorers names the guard, and panel.guard.model is empty.",
            hint="Name a folder or a hub id there, or take guard out of panel.scorers.",
        )
    if not guard.model.startswith(("/", "~")):
        if HUB_ID.fullmatch(guard.model):
            return None
        raise Misconfigured(
            f"panel.guard.model: {guard.model!r} is neither a hub id nor an absolute folder.",
            hint="Write org/name, or the folder from its root: /srv/models/name.",
        )
    try:
        path = Path(guard.model).expanduser()
    except RuntimeError:  # a ~somebody that is nobody
        path = Path(guard.model)
    if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
        raise Misconfigured(
            f"panel.guard.model: {path} holds no model: config.json and *.safetensors are needed.",
            hint="Download the whole checkpoint into it; weights in other formats are not read.",
        )
    return path


def fingerprint(path: Path) -> str:
    """SHA-256 over the files of a model folder: small ones whole, weights by samples.

    A sample is 4 KiB, and 256 of them lie evenly over a weights file, from its header on. Weights
    that were trained further differ everywhere; a few bytes patched by hand can go unnoticed.
    Raises Misconfigured when one cannot be read.
    """
    weights = set(path.glob("*.safetensors"))
    files = weights.union(*(path.glob(pattern) for pattern in SMALL_FILES))
    contents = {}
    try:
        for file in sorted(files):
            stat = file.stat()
            read = _sampled if file in weights else _whole
            contents[file.name] = read(file, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise Misconfigured(
            f"panel.guard.model: {error.filename} cannot be read: {error.strerror}.",
            hint="Give the user that the daemon runs as the right to read the folder.",
        ) from error
    return digest(contents)


@cache
def _whole(file: Path, _size: int, _changed_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@cache
def _sampled(file: Path, size: int, _changed_ns: int) -> str:
    content = hashlib.sha256(size.to_bytes(8, "little"))
    with file.open("rb") as weights:
        for at in range(0, size, max(SAMPLE_BYTES, size // SAMPLES)):
            weights.seek(at, os.SEEK_SET)
            content.update(weights.read(SAMPLE_BYTES))
    return content.hexdigest()


def _code(family: str) -> str:
    """Digest of the files that ask and read."""
    module = importlib.import_module(FAMILIES[family].questions.__module__)
    here = Path(__file__).resolve().parent
    files = (Path(str(module.__file__)), here / "family.py", here.parent / "guard.py")
    return digest([_whole(file, 0, file.stat().st_mtime_ns) for file in files])
