"""Reads an adapter's GGUF file back: what was written must be what was meant, to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, Keys
from msgspec import Struct
from numpy.typing import NDArray

from store.errors import IntegrityError
from trainer.gguf.architectures import Rows

_META = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count")
"""Fields that the reader adds to the file's own keys."""


class Stored(Struct, frozen=True, kw_only=True):
    """A pair in the dtype of the file, B's rows as PEFT has them."""

    tensor: str
    a: NDArray[Any]
    b: NDArray[Any]
    order: Rows | None


def require_same(path: Path, architecture: str, alpha: float, stored: Sequence[Stored]) -> None:
    """Raises IntegrityError where the file gives another alpha / rank * B @ A than the pairs do.

    The rows of B are put back in PEFT's order; equal factors have equal products.
    """
    try:
        reader = GGUFReader(path)
        keys = {name: f.contents() for name, f in reader.fields.items() if name not in _META}
        tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise IntegrityError(f"{path} cannot be read back: {error}.") from error
    faults = [*_key_faults(keys, architecture, alpha), *_tensor_faults(tensors, stored)]
    if faults:
        raise IntegrityError(
            f"{path} is not the adapter that it was written from: {'; '.join(faults)}.",
            hint="Write it again; if it happens again, look at disk and memory.",
        )


def _key_faults(keys: dict[str, Any], architecture: str, alpha: float) -> Iterator[str]:
    meant = {
        Keys.General.ARCHITECTURE: architecture,
        Keys.General.TYPE: "adapter",
        Keys.Adapter.TYPE: "lora",
        Keys.Adapter.LORA_ALPHA: alpha,
    }
    if keys != meant:
        yield f"its keys are {keys}"


def _tensor_faults(tensors: dict[str, NDArray[Any]], stored: Sequence[Stored]) -> Iterator[str]:
    meant = {f"{one.tensor}.lora_{half}" for one in stored for half in "ab"}
    if odd := meant ^ set(tensors):
        yield f"{', '.join(sorted(odd))} lacking or too many"
        return
    for one in stored:
        a, b = tensors[f"{one.tensor}.lora_a"], tensors[f"{one.tensor}.lora_b"]
        if not (_equal(a, one.a) and _equal(_as_peft(b, one.order), one.b)):
            yield f"{one.tensor} has other numbers"


def _as_peft(b: NDArray[Any], order: Rows | None) -> NDArray[Any]:
    """Undoes llama.cpp's order of the rows."""
    if order is None or len(order) != len(b):
        return b
    put_back = np.empty_like(b)
    put_back[order] = b
    return put_back


def _equal(found: NDArray[Any], meant: NDArray[Any]) -> bool:
    """To the bit: -0.0 is not 0.0."""
    return (found.dtype, found.shape) == (meant.dtype, meant.shape) and (
        found.tobytes() == meant.tobytes()
    )
