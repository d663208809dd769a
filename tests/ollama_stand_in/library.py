"""What lies on the stand-in's disk: blobs by digest, and manifests that name them as a model's.

A manifest's digest is that of its bytes, so a copy has its source's. Blobs that no manifest names
go with the last manifest that did.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

NAME = re.compile(r"(?:[\w.-]+/)?[\w][\w.-]{0,79}(?::[\w][\w.-]{0,79})?")
DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")
KIND = "application/vnd.ollama.image."


class ApiError(Exception):
    """What the server says of a request that it does not fulfil."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


@dataclass(frozen=True)
class Model:
    """A manifest, read."""

    name: str
    digest: str
    base: Path
    adapters: tuple[Path, ...]
    parameters: dict[str, Any]
    template: str
    license: str
    system: str


@dataclass
class Library:
    """Blobs and manifests in a folder."""

    folder: Path
    quota: int | None = None
    """Bytes that all blobs may take together; None: as many as the disk takes."""
    copy_seconds: float = 0.0
    """For so long a manifest that is copied over is empty, as it is for a moment on a real one."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.blobs.mkdir(parents=True, exist_ok=True)

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    # --- blobs ----------------------------------------------------------------------------

    def blob(self, digest: str) -> Path:
        if not DIGEST.fullmatch(digest):
            raise ApiError(400, "invalid digest format")
        return self.blobs / digest.replace(":", "-")

    def take(self, digest: str, content: BinaryIO, length: int) -> bool:
        """Keeps what is sent; whether it was new. Nothing is left of what does not match."""
        path = self.blob(digest)
        partial = path.with_name(f"partial-{threading.get_ident()}")
        sha, left = hashlib.sha256(), length
        try:
            with partial.open("wb") as file:
                while left and (chunk := content.read(min(left, 1 << 16))):
                    self._require_room(len(chunk))
                    sha.update(chunk)
                    file.write(chunk)
                    left -= len(chunk)
            if left:
                raise ApiError(400, "unexpected EOF")
            if f"sha256-{sha.hexdigest()}" != path.name:
                raise ApiError(400, f"digest mismatch, expected {digest!r}")
            new = not path.exists()
            partial.rename(path)
            return new
        finally:
            partial.unlink(missing_ok=True)

    def keep(self, kind: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not self.blob(digest).exists():
            self._require_room(len(content))
            self.blob(digest).write_bytes(content)
        return self.layer(kind, digest)

    def _require_room(self, more: int) -> None:
        if self.quota is None:
            return
        used = sum(path.stat().st_size for path in self.blobs.iterdir())
        if used + more > self.quota:
            raise ApiError(500, f"write {self.blobs}/partial: no space left on device")

    def layer(self, kind: str, digest: str) -> dict[str, Any]:
        path = self.blob(digest)
        if not path.exists():
            raise ApiError(400, f"blob {digest} not found")
        return {"mediaType": KIND + kind, "digest": digest, "size": path.stat().st_size}

    # --- manifests ------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ApiError(400, "invalid model name")
        return self.folder / "manifests" / full(name).replace(":", "@")

    def model(self, name: str) -> Model:
        """The model of this name. Raises a 404."""
        try:
            content = self.path(name).read_bytes()
            layers = json.loads(content)["layers"]
        except (OSError, ValueError):
            raise ApiError(404, f"model '{name}' not found") from None

        def blobs(kind: str) -> list[Path]:
            return [self.blob(la["digest"]) for la in layers if la["mediaType"] == KIND + kind]

        def text(kind: str) -> str:
            return "\n".join(path.read_text() for path in blobs(kind))

        return Model(
            name=full(name),
            digest=hashlib.sha256(content).hexdigest(),
            base=blobs("model")[-1],
            adapters=tuple(blobs("adapter")),
            parameters=json.loads(text("params") or "{}"),
            template=text("template"),
            license=text("license"),
            system=text("system"),
        )

    def tags(self) -> list[dict[str, Any]]:
        """Every manifest that can be read, newest first."""
        found = []
        for path in (self.folder / "manifests").rglob("*@*"):
            name = str(path.relative_to(self.folder / "manifests")).replace("@", ":")
            try:
                digest, changed = self.model(name).digest, path.stat().st_mtime_ns
            except (ApiError, OSError):
                continue
            moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(changed / 1e9))
            found.append(
                {
                    "name": name,
                    "model": name,
                    "modified_at": f"{moment}.{changed % 10**9:09}Z",
                    "size": path.stat().st_size,
                    "digest": digest,
                }
            )
        return sorted(found, key=lambda one: str(one["modified_at"]), reverse=True)

    def copy(self, source: str, destination: str) -> None:
        """Empties what the destination was, then writes it: a server that is killed in between
        leaves a name that cannot be read.
        """
        self.model(source)
        content = self.path(source).read_bytes()
        path = self.path(destination)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            time.sleep(self.copy_seconds)
            file.write(content)

    def delete(self, name: str) -> None:
        with self.lock:
            self.model(name)
            gone = self.digests([self.path(name)])
            self.path(name).unlink()
            self.prune(gone)

    def prune(self, digests: Iterable[str]) -> None:
        """Deletes those of the blobs that no manifest names."""
        used = self.digests((self.folder / "manifests").rglob("*@*"))
        for digest in set(digests) - used:
            self.blob(digest).unlink(missing_ok=True)

    def digests(self, manifests: Iterable[Path]) -> set[str]:
        found: set[str] = set()
        for path in manifests:
            try:
                manifest = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue
            found |= {la["digest"] for la in [*manifest["layers"], manifest["config"]]}
        return found


def full(name: str) -> str:
    """The name with its tag."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def modelfile(model: Model) -> str:
    """As `ollama show --modelfile` has it."""
    lines = ['# Modelfile generated by "ollama show"', f"# FROM {model.name}", ""]
    lines += [f"FROM {model.base}", *(f"ADAPTER {path}" for path in model.adapters)]
    lines += [f'TEMPLATE """{model.template}"""']
    lines += [f"PARAMETER {name} {value}" for name, value in model.parameters.items()]
    lines += [f'LICENSE """{model.license}"""'] if model.license else []
    return os.linesep.join([*lines, ""])
