"""An adapter as the GGUF file that llama.cpp loads beside its base.

The one form of adapter that Ollama takes in all its versions since 2024. What was multiplied into
the weights at the end of training (adapter_scale) is in them; nothing of it is done here again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGUFWriter, Keys

from store.errors import Rejected
from store.records import Noun
from trainer.adapter import adapter_hash, require_base
from trainer.base import Base, hash_files
from trainer.gguf.architectures import ARCHITECTURES
from trainer.gguf.files import gguf_file, require_bytes
from trainer.gguf.pairs import Matrix, Pair, read_pairs
from trainer.gguf.readback import Stored, require_same
from trainer.shape import shape_of

Dtype = Literal["F32", "F16"]


class GgufAdapter(Noun, frozen=True, kw_only=True):
    """An adapter in a GGUF file that was read back and holds exactly the PEFT adapter."""

    path: str
    sha256: str
    bytes: int
    architecture: str
    """llama.cpp's name of the base's family; it loads the adapter beside no other."""
    dtype: Dtype
    alpha: float
    """Of the file: llama.cpp multiplies each product by alpha / rank."""
    rank: int
    """The highest of any module."""
    tensors: int
    adapter_hash: str
    """Of the PEFT adapter that it was made from."""


def write_lora(
    adapter: Path, base: Base, destination: Path, *, dtype: Dtype = "F32"
) -> GgufAdapter:
    """Writes a PEFT adapter of this base as a GGUF file: whole or not at all, always the same.

    F32 holds the very numbers that were evaluated; F16 halves the file and rounds them. Raises
    Rejected with all that cannot be served, IntegrityError for an adapter of another base or a
    file that does not read back as it was meant, and DoesNotFit or Unavailable where it cannot be
    written.
    """
    require_base(adapter, base)
    shape = shape_of(base)
    pairs = read_pairs(adapter, shape)
    architecture = ARCHITECTURES[shape.model_type]
    alpha = _common_alpha(pairs)
    stored = [_stored(pair, alpha, dtype) for pair in pairs]
    size = sum(one.a.nbytes + one.b.nbytes for one in stored)
    with gguf_file(destination, size) as partial:
        _write(partial, architecture, alpha, stored)
        require_bytes(partial, size)
        require_same(partial, architecture, alpha, stored)
    return GgufAdapter(
        path=str(destination),
        sha256=hash_files([destination]),
        bytes=destination.stat().st_size,
        architecture=architecture,
        dtype=dtype,
        alpha=alpha,
        rank=max(pair.rank for pair in pairs),
        tensors=2 * len(pairs),
        adapter_hash=adapter_hash(adapter),
    )


def _common_alpha(pairs: Sequence[Pair]) -> float:
    """A file has one alpha, as a 32-bit number: that of most modules, whose B stays as it is."""
    ((alpha, _),) = Counter(float(np.float32(pair.alpha)) for pair in pairs).most_common(1)
    return alpha


def _stored(pair: Pair, alpha: float, dtype: Dtype) -> Stored:
    """The pair as it is written. Raises Rejected where its numbers are too large for the dtype.

    A module with another alpha than the file's has its B multiplied by what is between them.
    """
    factor = 1.0 if np.float32(pair.alpha) == alpha else pair.alpha / alpha
    kind = np.float32 if dtype == "F32" else np.float16
    with np.errstate(over="ignore"):
        a = pair.a.astype(kind)
        b = (pair.b * np.float32(factor)).astype(kind)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise Rejected(
            f"{pair.module} holds numbers too large for {dtype}.",
            hint="Write it in F32." if dtype == "F16" else "Lower its alpha in alpha_pattern.",
        )
    return Stored(tensor=pair.tensor, a=a, b=b, order=pair.order)


def _write(path: Path, architecture: str, alpha: float, stored: Sequence[Stored]) -> None:
    writer = GGUFWriter(path, architecture)
    try:
        writer.add_type("adapter")
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, alpha)
        for one in stored:
            writer.add_tensor(f"{one.tensor}.lora_a", one.a)
            writer.add_tensor(f"{one.tensor}.lora_b", _ordered(one))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _ordered(one: Stored) -> Matrix:
    """B with the rows where llama.cpp has them."""
    return one.b if one.order is None else one.b[one.order]
