"""A whole model with the adapter in it, as one GGUF file.

For servers that load no adapters, and for two versions side by side where a server keeps one
adapter a base. It costs the size of the base for each version; what the adapter does not touch
stays byte for byte as the base has it. One tensor is in memory at a time.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, Keys, LlamaFileType
from gguf.gguf_reader import ReaderTensor
from gguf.quants import dequantize, quantize
from msgspec.structs import replace
from numpy.typing import NDArray

from store.errors import IntegrityError, Misconfigured, Rejected
from store.records import Noun
from trainer.adapter import adapter_hash, require_base
from trainer.base import Base, hash_files, locate
from trainer.gguf.architectures import ARCHITECTURES
from trainer.gguf.files import gguf_file, require_bytes
from trainer.gguf.pairs import Matrix, Pair, read_pairs
from trainer.shape import Shape, shape_of

Type = Literal["Q8_0", "F16"]
FILE_TYPES = {"Q8_0": LlamaFileType.MOSTLY_Q8_0, "F16": LlamaFileType.MOSTLY_F16}


class GgufModel(Noun, frozen=True, kw_only=True):
    """A base with an adapter in it, in a GGUF file that was read back."""

    path: str
    sha256: str
    bytes: int
    architecture: str
    type: Type
    """Of the tensors that the adapter changed."""
    changed: int
    """How many they are; the others are the base's."""
    adapter_hash: str
    gguf_hash: str
    """Of the base's GGUF file."""


def write_merged(
    adapter: Path, base: Base, destination: Path, *, type: Type = "Q8_0", gguf: Path | None = None
) -> GgufModel:
    """Writes the base with the adapter added to its weights: whole or not at all, always the same.

    `gguf`: the base as a GGUF file, where it is not one itself. Raises Rejected with all that
    cannot be added, Misconfigured without such a file, IntegrityError for an adapter of another
    base or a file that does not read back, and DoesNotFit or Unavailable where it cannot be
    written.
    """
    require_base(adapter, base)
    source = _gguf_of(base, gguf)
    shape = shape_of(base)
    pairs = {pair.tensor: pair for pair in read_pairs(adapter, shape)}
    reader = _reader(source, shape, pairs)
    types = {t.name: _type(t, type) if t.name in pairs else t.tensor_type for t in reader.tensors}
    size = sum(_bytes(tensor, types[tensor.name]) for tensor in reader.tensors)
    with gguf_file(destination, size) as partial:
        head = _head(reader, type, types)
        hashes = _write(partial, head, reader, types, pairs)
        require_bytes(partial, size)
        _require_same(partial, head, hashes)
    return GgufModel(
        path=str(destination),
        sha256=hash_files([destination]),
        bytes=destination.stat().st_size,
        architecture=ARCHITECTURES[shape.model_type],
        type=type,
        changed=len(pairs),
        adapter_hash=adapter_hash(adapter),
        gguf_hash=source.hash,
    )


def _gguf_of(base: Base, gguf: Path | None) -> Base:
    if gguf is not None:
        return locate(str(gguf))
    if base.kind != "gguf":
        raise Misconfigured(
            f"A merged model is made of a GGUF file, and the base {base.name} is none.",
            hint=(
                "Convert it once with llama.cpp (`convert_hf_to_gguf.py FOLDER --outtype f16`), "
                "which knows its tokenizer, and name the file with --gguf."
            ),
        )
    return base


def _reader(source: Base, shape: Shape, pairs: Mapping[str, Pair]) -> GGUFReader:
    """The opened file. Raises IntegrityError where it is not the base that has this shape."""
    found = shape_of(source)
    alike = ARCHITECTURES.get(found.model_type) == ARCHITECTURES[shape.model_type]
    if not alike or replace(found, model_type=shape.model_type) != shape:
        raise IntegrityError(f"{source.name} is another model than the adapter's base: {found}.")
    reader = GGUFReader(source.location)
    sizes = {tensor.name: tuple(reversed(tensor.shape.tolist())) for tensor in reader.tensors}
    other = [n for n, p in pairs.items() if sizes.get(n) != (p.b.shape[0], p.a.shape[1])]
    if other:
        raise IntegrityError(f"{source.name} has no {', '.join(other[:3])} of these sizes.")
    return reader


def _type(tensor: ReaderTensor, type: Type) -> GGMLQuantizationType:
    """What a changed tensor becomes; F16 where its rows are no multiple of Q8_0's blocks."""
    wanted = GGMLQuantizationType[type]
    fits = int(tensor.shape[0]) % GGML_QUANT_SIZES[wanted][0] == 0
    return wanted if fits else GGMLQuantizationType.F16


def _bytes(tensor: ReaderTensor, type: GGMLQuantizationType) -> int:
    block, size = GGML_QUANT_SIZES[type]
    return int(tensor.n_elements) // block * size


def _head(reader: GGUFReader, type: Type, types: Mapping[str, GGMLQuantizationType]) -> bytes:
    """All before the weights: the base's keys byte for byte, but for the name of the types."""
    end = reader.tensors[0].field.offset
    head = bytearray(reader.data[:end])
    sizes = Counter[GGMLQuantizationType]()
    for tensor in reader.tensors:
        sizes[types[tensor.name]] += int(tensor.n_elements)
    file_type = reader.fields.get(Keys.General.FILE_TYPE)
    if file_type is not None and sizes.most_common(1)[0][0].name == type:
        *before, value = file_type.parts
        place = file_type.offset + sum(int(part.nbytes) for part in before)
        head[place : place + value.nbytes] = struct.pack("<I", FILE_TYPES[type])
    offset = 0
    for tensor in reader.tensors:
        name, dimensions = tensor.name.encode(), tensor.shape.tolist()
        head += struct.pack(f"<Q{len(name)}sI", len(name), name, len(dimensions))
        head += struct.pack(f"<{len(dimensions)}Q", *dimensions)
        head += struct.pack("<IQ", types[tensor.name], offset)
        offset += _padded(_bytes(tensor, types[tensor.name]), reader)
    return bytes(head).ljust(_padded(len(head), reader), b"\0")


def _padded(size: int, reader: GGUFReader) -> int:
    alignment = int(reader.alignment)
    return (size + alignment - 1) // alignment * alignment


def _write(
    path: Path,
    head: bytes,
    reader: GGUFReader,
    types: Mapping[str, GGMLQuantizationType],
    pairs: Mapping[str, Pair],
) -> dict[str, str]:
    """Writes the file and returns each tensor's hash."""
    hashes = {}
    with path.open("wb") as file:
        file.write(head)
        for name, data in _tensors(reader, types, pairs):
            content = np.ascontiguousarray(data).data.cast("B")
            file.write(content)
            file.write(bytes(_padded(len(content), reader) - len(content)))
            hashes[name] = _hash(data)
    return hashes


def _tensors(
    reader: GGUFReader, types: Mapping[str, GGMLQuantizationType], pairs: Mapping[str, Pair]
) -> Iterator[tuple[str, NDArray[Any]]]:
    for tensor in reader.tensors:
        pair = pairs.get(tensor.name)
        if pair is None:
            yield tensor.name, tensor.data
            continue
        merged = dequantize(tensor.data, tensor.tensor_type) + _delta(pair)
        with np.errstate(over="ignore"):
            data = quantize(merged, types[tensor.name])
        if not (
            np.isfinite(merged).all() and np.isfinite(dequantize(data, types[tensor.name])).all()
        ):
            raise Rejected(f"{tensor.name} has numbers too large for {types[tensor.name].name}.")
        yield tensor.name, data


def _delta(pair: Pair) -> Matrix:
    """What is added to llama.cpp's weight: alpha / rank * B @ A, with its order of the rows."""
    b = pair.b if pair.order is None else pair.b[pair.order]
    delta: Matrix = np.float32(pair.alpha / pair.rank) * (b @ pair.a)
    return delta


def _require_same(path: Path, head: bytes, hashes: Mapping[str, str]) -> None:
    """Raises IntegrityError where the file does not hold what was written to it."""
    with path.open("rb") as file:
        same = file.read(len(head)) == head
    if not same or {t.name: _hash(t.data) for t in GGUFReader(path).tensors} != dict(hashes):
        raise IntegrityError(
            f"{path} does not hold what was written to it.", hint="Look at disk and memory."
        )


def _hash(data: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(data).data).hexdigest()
