"""What lies on the stand-in's disk: blobs by digest, and manifests that name them as a model's.

A manifest's digest is that of its bytes, so a copy has its source's. Blobs that no manifest names
go with the last manifest that did.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tests.ollama_stand_in.golang import BadTemplate, parse

NAME = re.compile(r"(?:[\w.-]+/)?[\w][\w.-]{0,79}(?::[\w][\w.-]{0,79})?")
DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")
KIND = "application/vnd.ollama.image."
STRING, NUMBERS = 8, {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Types of GGUF's values; of numbers how many bytes they take."""
CHILD_PROCESS, WITHOUT_QUANTIZING = (0, 30, 0), (0, 34, 1)


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
    version: tuple[int, int, int]
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

    def _keep(self, kind: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not self.blob(digest).exists():
            self._require_room(len(content))
            self.blob(digest).write_bytes(content)
        return self._layer(kind, digest)

    def _require_room(self, more: int) -> None:
        if self.quota is None:
            return
        used = sum(path.stat().st_size for path in self.blobs.iterdir())
        if used + more > self.quota:
            raise ApiError(500, f"write {self.blobs}/partial: no space left on device")

    def _layer(self, kind: str, digest: str) -> dict[str, Any]:
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
            gone = self._digests([self.path(name)])
            self.path(name).unlink()
            self._prune(gone)

    def _prune(self, digests: Iterable[str]) -> None:
        """Deletes those of the blobs that no manifest names."""
        used = self._digests((self.folder / "manifests").rglob("*@*"))
        for digest in set(digests) - used:
            self.blob(digest).unlink(missing_ok=True)

    def _digests(self, manifests: Iterable[Path]) -> set[str]:
        found: set[str] = set()
        for path in manifests:
            try:
                manifest = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue
            found |= {la["digest"] for la in [*manifest["layers"], manifest["config"]]}
        return found

    # --- creating -------------------------------------------------------------------------

    def create(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What the server says while it makes a model; the manifest is written last."""
        with self.lock:
            yield from self._create(request)

    def _create(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        path = self.path(request.get("model") or request.get("name") or "")
        self._require_possible(request)
        if request.get("from"):
            layers = self._inherited(request["from"])
        elif request.get("files"):
            yield {"status": "parsing GGUF"}
            layers = self._models(request["files"])
        else:
            raise ApiError(400, "neither 'from' or 'files' was specified")
        layers += self._adapters(request.get("adapters") or {}, layers)
        layers = self._replaced(layers, request)
        for layer in layers:
            yield {"status": f"using existing layer {layer['digest']}"}
        config = self._keep("config", json.dumps({"model_format": "gguf"}).encode())
        yield {"status": "writing manifest"}
        before = self._digests([path])
        path.parent.mkdir(parents=True, exist_ok=True)
        manifest = {"schemaVersion": 2, "config": config, "layers": layers}
        path.write_text(json.dumps(manifest))
        self._prune(before)
        yield {"status": "success"}

    def _require_possible(self, request: dict[str, Any]) -> None:
        names = [*(request.get("files") or {}), *(request.get("adapters") or {})]
        strict = self.version >= WITHOUT_QUANTIZING
        if request.get("quantize"):
            raise ApiError(400, "quantize before import") if strict else _beyond("quantize")
        if any(name.endswith(".safetensors") for name in names):
            if strict and request.get("adapters"):
                raise ApiError(400, "safetensors imports do not support adapters")
            raise _beyond("convert safetensors")
        try:
            parse(request.get("template") or "")
        except BadTemplate as error:
            raise ApiError(400, f"template: :1: {error}") from error

    def _inherited(self, name: str) -> list[dict[str, Any]]:
        """All layers of the parent, its adapters too: this is how two come to be added up."""
        try:
            self.model(name)
        except ApiError as error:
            raise ApiError(500, "pull model manifest: dial tcp: no route to host") from error
        found: list[dict[str, Any]] = json.loads(self.path(name).read_bytes())["layers"]
        return found

    def _models(self, files: dict[str, str]) -> list[dict[str, Any]]:
        (digest,) = files.values()
        self._kind_of(digest)
        if CHILD_PROCESS <= self.version < WITHOUT_QUANTIZING:  # there it is written anew
            return [self._keep("model", self.blob(digest).read_bytes() + bytes(32))]
        return [self._layer("model", digest)]

    def _adapters(
        self, adapters: dict[str, str], layers: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        if len(adapters) > 1:
            raise ApiError(400, "only one adapter is currently supported")
        added = []
        for digest in adapters.values():
            kind = self._kind_of(digest)
            if kind == "model":  # it takes the base's place
                layers[:] = [la for la in layers if la["mediaType"] != KIND + "model"]
            added.append(self._layer(kind, digest))
        return added

    def _kind_of(self, digest: str) -> str:
        """What a GGUF file is, by its own word; of its content nothing else is looked at."""
        self._layer("", digest)
        with self.blob(digest).open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ApiError(400, "supplied file was not in GGUF format")
        return "adapter" if keyed(self.blob(digest), "general.type") == "adapter" else "model"

    def _replaced(
        self, layers: list[dict[str, Any]], request: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The layers with what the request says anew; a license is added to those there are."""
        for kind in ("template", "system"):
            if request.get(kind):
                layers = [la for la in layers if la["mediaType"] != KIND + kind]
                layers.append(self._keep(kind, request[kind].encode()))
        if request.get("license"):
            layers = [*layers, self._keep("license", request["license"].encode())]
        if request.get("parameters"):
            old = [la for la in layers if la["mediaType"] == KIND + "params"]
            merged = json.loads(self.blob(old[0]["digest"]).read_bytes()) if old else {}
            merged |= request["parameters"]
            layers = [la for la in layers if la not in old]
            layers.append(self._keep("params", json.dumps(merged, sort_keys=True).encode()))
        return layers


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


def keyed(path: Path, key: str) -> str | None:
    """A text among a GGUF file's first keys; read by hand, as the gguf package reads all of it."""
    with path.open("rb") as file:
        file.read(24)  # magic, version, two counts
        while (name := _text(file)).startswith("general."):
            (kind,) = struct.unpack("<I", file.read(4))
            if kind != STRING and kind not in NUMBERS:
                return None
            value = _text(file) if kind == STRING else str(file.read(NUMBERS[kind]))
            if name == key:
                return value
    return None


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    return file.read(min(length, 1 << 20)).decode(errors="replace")


def _beyond(what: str) -> ApiError:
    return ApiError(501, f"the stand-in does not {what}")
