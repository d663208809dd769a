"""Both splits of a dataset that a training reads, as it sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from store.errors import Rejected
from trainer.base import hash_files
from trainer.jobs import FinetuneJob
from trainer.methods.columns import require_kind
from trainer.methods.method import Method
from trainer.sequences import named

SPLITS = ("train", "validation")


class Splits(NamedTuple):
    """The dataset as the training sees it."""

    train: list[Any]
    validation: list[Any]
    left_out: dict[str, tuple[str, ...]]
    hash: str
    """Of the files: what was erased since the last try is not learned from any more."""


class File(NamedTuple):
    """The rows of a split, and the file that they are in."""

    path: Path
    lines: list[dict[str, Any]]


def files_of(task: FinetuneJob) -> dict[str, File]:
    """Both splits. Raises Rejected where one is missing, or of another kind than the method's."""
    found = {}
    for split in SPLITS:
        path = Path(task.dataset) / f"{split}.jsonl"
        if not path.is_file():
            raise Rejected(f"The dataset has no {path}.")
        lines = msgspec.json.Decoder(dict[str, Any]).decode_lines(path.read_bytes())
        require_kind(task.recipe.method, lines, path)
        found[split] = File(path, lines)
    return found


def read(files: dict[str, File], method: Method[Any]) -> Splits:
    """Both splits, tokenised and in order. Raises Rejected when there is nothing to learn from."""
    kept: dict[str, list[Any]] = {}
    left_out: dict[str, tuple[str, ...]] = {}
    for split, (_, lines) in files.items():
        kept[split], left_out[split] = method.read(lines)
        if left_out[split]:
            print(
                f"{len(left_out[split])} of {len(lines)} {split} rows are left out: nothing that "
                f"could be learned is before max_length ({method.recipe.max_length}): "
                f"{named(left_out[split])}"
            )
    if not kept["train"]:
        raise Rejected(
            "No training row has an assistant token to learn from.",
            hint="Look at the dataset's train.jsonl and at max_length "
            f"({method.recipe.max_length}).",
        )
    return Splits(
        train=method.ordered(kept["train"]),
        validation=kept["validation"],
        left_out=left_out,
        hash=hash_files(file.path for file in files.values()),
    )
