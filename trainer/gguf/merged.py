"""A whole model with the adapter in it, as one GGUF file.

For servers that load no adapters, and for two versions side by side where a server keeps one
adapter a base. It costs the size of the base for each version; what the adapter does not touch
stays byte for byte as the base has it. One tensor is in memory at a time.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter, Keys, LlamaFileType
from gguf.gguf_reader import ReaderTensor
from gguf.quants import dequantize, quantize
from msgspec.structs import replace
from numpy.typing import NDArray

from store.errors import DoesNotFit, IntegrityError, Misconfigured, Rejected, Unavailable
from store.records import Noun
from trainer.adapter import adapter_hash, require_base
from trainer.base import Base, hash_files, locate
from trainer.gguf.architectures import ARCHITECTURES
from trainer.gguf.pairs import Matrix, Pair, read_pairs
from trainer.job import whole
from trainer.shape import Shape, shape_of

Type = Literal["Q8_0", "F16"]
FILE_TYPES = {"Q8_0": LlamaFileType.MOSTLY_Q8_0, "F16": LlamaFileType.MOSTLY_F16}
WRITERS_OWN = ("GGUF.", Keys.General.ARCHITECTURE)
"""Keys that the library writes by itself."""
SPARE_BYTES = 64_000_000
"""Kept free on the disk, and for the keys, of which a vocabulary takes a few megabytes."""


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
    _require_space(destination, reader.tensors, types)
    try:
        with whole(destination) as partial:
            keys = _keys(reader, type, types)
            hashes = _write(partial, ARCHITECTURES[shape.model_type], reader, keys, types, pairs)
            _require_same(partial, keys, hashes)
    except OSError as error:
        raise Unavailable(
            f"{destination} cannot be written: {error}.",
            hint="Look at the disk and the folder; nothing of the file was left.",
        ) from error
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


def _require_space(
    destination: Path, tensors: Sequence[ReaderTensor], types: Mapping[str, GGMLQuantizationType]
) -> None:
    needed = sum(_bytes(tensor, types[tensor.name]) for tensor in tensors) + SPARE_BYTES
    free = shutil.disk_usage(destination.parent).free
    if free < needed:
        raise DoesNotFit(
            f"{destination} needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free.",
            hint="Free space on the disk, or serve the adapter beside its base.",
        )


def _bytes(tensor: ReaderTensor, type: GGMLQuantizationType) -> int:
    block, size = GGML_QUANT_SIZES[type]
    return int(tensor.n_elements) // block * size


def _keys(
    reader: GGUFReader, type: Type, types: Mapping[str, GGMLQuantizationType]
) -> dict[str, tuple[Any, ...]]:
    """The base's keys as the writer takes them, with the type that most weights now have."""
    keys = {
        name: (field.contents(), field.types[0], field.types[-1] if field.types[1:] else None)
        for name, field in reader.fields.items()
        if not name.startswith(WRITERS_OWN) and field.contents() != []  # which it cannot write
    }
    sizes = Counter[GGMLQuantizationType]()
    for tensor in reader.tensors:
        sizes[types[tensor.name]] += int(tensor.n_elements)
    if Keys.General.FILE_TYPE in keys and sizes.most_common(1)[0][0].name == type:
        _, kind, inner = keys[Keys.General.FILE_TYPE]
        keys[Keys.General.FILE_TYPE] = (int(FILE_TYPES[type]), kind, inner)
    return keys


def _write(
    path: Path,
    architecture: str,
    reader: GGUFReader,
    keys: Mapping[str, tuple[Any, ...]],
    types: Mapping[str, GGMLQuantizationType],
    pairs: Mapping[str, Pair],
) -> dict[str, str]:
    """Writes the file and returns each tensor's hash."""
    writer = GGUFWriter(path, architecture)
    writer.data_alignment = reader.alignment
    hashes = {}
    try:
        for name, value in keys.items():
            writer.add_key_value(name, *value)
        for tensor in reader.tensors:
            sizes = tuple(reversed(tensor.shape.tolist()))
            type = types[tensor.name]
            writer.add_tensor_info(
                tensor.name, sizes, np.dtype(np.float32), _bytes(tensor, type), raw_dtype=type
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, data in _tensors(reader, types, pairs):
            writer.write_tensor_data(data)
            hashes[name] = _hash(data)
    finally:
        writer.close()
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


def _require_same(
    path: Path, keys: Mapping[str, tuple[Any, ...]], hashes: Mapping[str, str]
) -> None:
    """Raises IntegrityError where the file holds other keys or bytes than were written."""
    reader = GGUFReader(path)
    found = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith(WRITERS_OWN)
    }
    if found != {name: value for name, (value, *_) in keys.items()}:
        raise IntegrityError(f"{path} has other keys than the base.")
    if {tensor.name: _hash(tensor.data) for tensor in reader.tensors} != dict(hashes):
        raise IntegrityError(
            f"{path} does not hold what was written to it.", hint="Look at disk and memory."
        )


def _hash(data: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(data).data).hexdigest()
