"""Reads a benchmark's rows from a file, or from the hub at run time."""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from store.errors import Misconfigured
from trainer.gates.benchmarks.benchmark import Benchmark, Row


def read(benchmark: Benchmark, where: str) -> tuple[Path, Sequence[Row]]:
    """The file that a path or a hub id means, and its rows. Raises Misconfigured."""
    path = Path(where).expanduser()
    if not path.is_file():
        path = _fetched(benchmark, where)
    rows = _of_parquet(path) if path.suffix == ".parquet" else _of_lines(path)
    if not rows:
        raise Misconfigured(f"trainer.benchmarks: {path} holds no rows.")
    return path, rows


def _of_lines(path: Path) -> Sequence[Row]:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows: Sequence[Row] = msgspec.json.Decoder(dict[str, Any]).decode_lines(raw)
    except (OSError, EOFError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(
            f"trainer.benchmarks: {path} cannot be read: {error}.",
            hint="Name a .jsonl, .jsonl.gz or .parquet file, or a dataset of the hub.",
        ) from error
    return rows


def _of_parquet(path: Path) -> Sequence[Row]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")  # not for everyone: tens of megabytes
    except ImportError as error:
        raise Misconfigured(
            f"trainer.benchmarks: {path} needs pyarrow, which is not installed.",
            hint="`pip install pyarrow` where Bhavana is installed, or name a .jsonl file.",
        ) from error
    try:
        rows: Sequence[Row] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own are ValueErrors
        raise Misconfigured(f"trainer.benchmarks: {path} cannot be read: {error}.") from error
    return rows


def _fetched(benchmark: Benchmark, where: str) -> Path:
    """The file in the hub's cache, fetched there when it is not."""
    from huggingface_hub import hf_hub_download  # slow to import, and only the hub needs it
    from huggingface_hub.errors import HFValidationError

    repository, _, revision = where.partition("@")
    try:
        return Path(
            hf_hub_download(
                repository, benchmark.file, repo_type="dataset", revision=revision or "main"
            )
        )
    except (OSError, HFValidationError) as error:  # the hub's other errors are OSErrors
        raise Misconfigured(
            f"trainer.benchmarks: {where} is no file, and {benchmark.file} of such a dataset is "
            f"neither in the hub's cache nor to be had: {type(error).__name__}.",
            hint=f"Run `hf download --repo-type dataset {repository} {benchmark.file}` where the "
            "hub can be reached, or name a file.",
        ) from error
