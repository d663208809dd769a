"""How the stand-in makes a model: what it takes, by its era, and which layers come of it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tests.ollama_stand_in.golang import BadTemplate, parse
from tests.ollama_stand_in.library import KIND, ApiError, Library

STRING, NUMBERS = 8, {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Types of GGUF's values; of numbers how many bytes they take."""
CHILD_PROCESS, WITHOUT_QUANTIZING = (0, 30, 0), (0, 34, 1)


@dataclass(frozen=True)
class Maker:
    """Makes the models of a library."""

    library: Library
    version: tuple[int, int, int]

    def create(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What the server says while it makes a model; the manifest is written last."""
        with self.library.lock:
            yield from self._create(request)

    def _create(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        path = self.library.path(request.get("model") or request.get("name") or "")
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
        config = self.library.keep("config", json.dumps({"model_format": "gguf"}).encode())
        yield {"status": "writing manifest"}
        before = self.library.digests([path])
        path.parent.mkdir(parents=True, exist_ok=True)
        manifest = {"schemaVersion": 2, "config": config, "layers": layers}
        path.write_text(json.dumps(manifest))
        self.library.prune(before)
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
            self.library.model(name)
        except ApiError as error:
            raise ApiError(500, "pull model manifest: dial tcp: no route to host") from error
        found: list[dict[str, Any]] = json.loads(self.library.path(name).read_bytes())["layers"]
        return found

    def _models(self, files: dict[str, str]) -> list[dict[str, Any]]:
        (digest,) = files.values()
        self._kind_of(digest)
        if CHILD_PROCESS <= self.version < WITHOUT_QUANTIZING:  # there it is written anew
            return [self.library.keep("model", self.library.blob(digest).read_bytes() + bytes(32))]
        return [self.library.layer("model", digest)]

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
            added.append(self.library.layer(kind, digest))
        return added

    def _kind_of(self, digest: str) -> str:
        """What a GGUF file is, by its own word; of its content nothing else is looked at."""
        self.library.layer("", digest)
        with self.library.blob(digest).open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ApiError(400, "supplied file was not in GGUF format")
        return (
            "adapter" if keyed(self.library.blob(digest), "general.type") == "adapter" else "model"
        )

    def _replaced(
        self, layers: list[dict[str, Any]], request: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The layers with what the request says anew; a license is added to those there are."""
        for kind in ("template", "system"):
            if request.get(kind):
                layers = [la for la in layers if la["mediaType"] != KIND + kind]
                layers.append(self.library.keep(kind, request[kind].encode()))
        if request.get("license"):
            layers = [*layers, self.library.keep("license", request["license"].encode())]
        if request.get("parameters"):
            old = [la for la in layers if la["mediaType"] == KIND + "params"]
            merged = json.loads(self.library.blob(old[0]["digest"]).read_bytes()) if old else {}
            merged |= request["parameters"]
            layers = [la for la in layers if la not in old]
            layers.append(self.library.keep("params", json.dumps(merged, sort_keys=True).encode()))
        return layers


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
