"""An adapter's weights as they lie in the file, without torch: what is there, and in 16 bits."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from store.errors import Rejected

Numbers = np.ndarray[Any, Any]
STORED = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""How each dtype is read; numpy has no bfloat16, so its bits stay as they are."""
BFLOAT16_EXPONENT = 0x7F80
"""All ones: infinite, or not a number."""


class Tensor(NamedTuple):
    """One matrix in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Of its bytes, from the file's beginning."""

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape))


def tensors_of(path: Path) -> dict[str, Tensor]:
    """What the head of the file tells, by name. Raises Rejected for a file that is not whole."""
    try:
        with safe_open(path, framework="numpy"):  # looks whether head and length agree
            pass
    except (SafetensorError, OSError) as error:
        raise Rejected(f"{path.name} is no whole safetensors file: {error}.") from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head: dict[str, Any] = json.loads(file.read(length))
    head.pop("__metadata__", None)
    return {
        name: Tensor(entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in head.items()
    }


def sixteen_bits(path: Path, tensor: Tensor) -> Numbers:
    """The numbers, as they are stored in 16 bits. Raises Rejected where one is not finite there.

    float32 becomes float16, whose steps are finer than bfloat16's; what a training makes lies far
    inside its range.
    """
    if tensor.dtype not in STORED:
        raise Rejected(f"weights in {tensor.dtype}; F32, F16 and BF16 can be published")
    stored: Numbers = np.fromfile(
        path, dtype=STORED[tensor.dtype], count=tensor.numbers, offset=tensor.start
    )
    if tensor.dtype == "BF16":
        is_finite = ((stored & BFLOAT16_EXPONENT) != BFLOAT16_EXPONENT).all()
    else:
        with np.errstate(over="ignore"):  # what overflows is infinite, and told
            stored = stored.astype(np.float16, copy=False)
        is_finite = np.isfinite(stored).all()
    if not is_finite:
        raise Rejected("weights that are not finite in 16 bits")
    return stored


def bytes_in_16_bits(tensors: Mapping[str, Tensor]) -> int:
    """How large `write_16_bits` makes the file."""
    head, total = _head(tensors)
    return len(head) + total


def write_16_bits(source: Path, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes the same matrices in 16 bits, always the same bytes, one matrix in memory at a time.

    Raises Rejected as `sixteen_bits` does.
    """
    head, _ = _head(tensors)
    with path.open("wb") as file:
        file.write(head)
        for name in sorted(tensors):
            file.write(sixteen_bits(source, tensors[name]).tobytes())
        file.flush()
        os.fsync(file.fileno())


def _head(tensors: Mapping[str, Tensor]) -> tuple[bytes, int]:
    """The file's head, and how many bytes of numbers follow it."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        start, end = end, end + 2 * tensor.numbers
        dtype = "BF16" if tensor.dtype == "BF16" else "F16"
        entries[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    head = json.dumps(entries, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # the numbers begin at a multiple of eight, as is usual
    return len(head).to_bytes(8, "little") + head, end
