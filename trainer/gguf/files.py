"""How a GGUF file comes to be: whole or not there, and a full disk says so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import DoesNotFit, Unavailable
from trainer.job import whole

SPARE_BYTES = 64_000_000
"""Kept free on the disk, and for a file's keys, of which a vocabulary takes a few megabytes."""


@contextmanager
def gguf_file(destination: Path, weights_bytes: int) -> Iterator[Path]:
    """The name to write under; the file gets its own at the end, when nothing was raised.

    Raises DoesNotFit before anything is written, and Unavailable where writing fails.
    """
    try:
        free, needed = shutil.disk_usage(destination.parent).free, weights_bytes + SPARE_BYTES
        if free < needed:
            raise DoesNotFit(
                f"{destination} needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free.",
                hint="Free space on the disk.",
            )
        with whole(destination) as partial:
            yield partial
    except OSError as error:
        raise Unavailable(
            f"{destination} cannot be written: {error}.",
            hint="Look at the disk and the folder; nothing of the file was left.",
        ) from error


def require_bytes(path: Path, weights_bytes: int) -> None:
    """Raises OSError for a file too small for its weights: numpy does not notice a full disk."""
    if (size := path.stat().st_size) < weights_bytes:
        raise OSError(f"only {size:,} bytes were taken")
