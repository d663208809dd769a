"""A built dataset in another format, as a folder that Hugging Face's `load_dataset` reads.

    train.*, validation.*   the rows in the format
    README.md               the card, with the splits
    manifest.json           which dataset, its content hash, the format, the hash of each file

A copy is out of reach of erasure and of consent. So only a dataset is exported that is whole and
of which every row may still be learned from, and the card says what a copy asks of its keeper.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from converters import FORMATS
from converters.dataset import read, verify
from converters.folder import (
    COPY,
    data_files,
    hashes,
    named_by_a_person,
    require_vacant,
    table,
    write_whole,
)
from converters.formats.format import Example, Format, Row, Unfit
from store import experiences
from store.errors import Halted, Rejected
from store.events import Store
from store.experiences import Assessed
from store.records import Dataset, Identifier, Noun, now, to_json

NAMED = 5
"""So many rows are named where some cannot be written."""
CARD = """---
license: other
task_categories: [text-generation]
configs:
  - config_name: default
    data_files:
{files}
{features}---
# {id}, as {format}

Format: {about}.

The rows of the dataset `{id}`: conversations that Bhavana selected for fine-tuning, as of position
{position} of its event log. Its content hash is `{content_hash}`.

| split | rows |
|---|---|
{splits}

Every row was recorded with consent to training. The scores come from automatic scorers and
are only as good as those; a row is not a statement of fact. Do not publish without asking the
people whose conversations these are.

{copy}
"""


class Exported(Noun, frozen=True, kw_only=True):
    """What an exported folder holds, and which dataset it came from."""

    dataset: Identifier
    content_hash: str
    """Of the dataset."""
    position: int
    format: str
    counts: dict[str, int]
    """Rows by split."""
    files: dict[str, str]
    """SHA-256 of each file."""


def export(store: Store, dataset: Dataset, folder: Path, *, format: str) -> Exported:
    """Writes the dataset into a folder that is not there or empty: all of it, or nothing.

    Raises Rejected for a format that is unknown or has no place for some row, Conflict for a
    folder that holds something, IntegrityError when rows were erased, Halted when some may no
    longer be learned from, Misconfigured when a library is missing. The folder is its owner's
    alone.
    """
    if format not in FORMATS:
        raise Rejected(f"There is no format {format}.", hint=f"There are: {', '.join(FORMATS)}.")
    if dataset.format != "chat":
        raise Rejected(
            f"{dataset.id} holds what people prefer, as {dataset.format}.",
            hint=f"`bhavana datasets preferences --format {dataset.format}` writes it anew.",
        )
    with named_by_a_person(folder):
        require_vacant(folder)
    rows = {split: _rows(text) for split, text in read(dataset).items()}
    said = _said(store, dataset, {row["id"] for some in rows.values() for row in some})
    chosen = FORMATS[format]
    made = {split: _made(chosen, some, said) for split, some in rows.items()}
    files = {f"{split}{chosen.suffix}": chosen.write(some) for split, some in made.items()}
    exported = Exported(
        dataset=dataset.id,
        content_hash=dataset.content_hash,
        position=dataset.position,
        format=format,
        counts={split: len(some) for split, some in rows.items()},
        files=hashes(files),
    )
    files["README.md"] = _card(exported, chosen).encode()
    files["manifest.json"] = msgspec.json.format(to_json(exported), indent=2) + b"\n"
    # Once more behind the writing: what was erased meanwhile is in no folder of ours.
    with named_by_a_person(folder):
        write_whole(folder, files, check=lambda: verify(dataset))
    return exported


def _rows(text: bytes) -> list[Row]:
    return [json.loads(line) for line in text.splitlines()]


def _said(store: Store, dataset: Dataset, ids: set[str]) -> dict[str, Assessed]:
    """What the dataset's panel said of each row. Raises Halted unless all may still be used."""
    found = experiences.assessed(store, dataset.panel, as_of=store.position(), moment=now())
    said = {a.experience.id: a for a in found if a.experience.id in ids and _may_be_used(a)}
    if len(said) < len(ids):
        raise Halted(
            f"{len(ids) - len(said)} rows of {dataset.id} may no longer be learned from: consent "
            "was withdrawn, a person rejected the answer, or its source is in quarantine.",
            hint="The next cycle builds a dataset without them.",
        )
    return said


def _may_be_used(a: Assessed) -> bool:
    """What the selection asked for may have changed since; the panel's word on it does not."""
    rejected = a.decision in ("reject", "correct")
    return a.consented and not rejected and a.tier != "quarantined"


def _made(
    format: Format[Example], rows: list[Row], said: Mapping[str, Assessed]
) -> list[Mapping[str, Any]]:
    made: list[Mapping[str, Any]] = []
    unfit: list[str] = []
    for row in rows:
        try:
            made.append(format.row(Example(row, said[row["id"]].assessment)))
        except Unfit as error:
            unfit.append(f"  - {row['id']}: {error.message}")
    if unfit:
        listed = "\n".join(unfit[:NAMED])
        raise Rejected(
            f"{len(unfit)} rows have no place in this format, the first of them:\n{listed}",
            hint="`chat` and `parquet` hold every conversation.",
        )
    return made


def _card(exported: Exported, format: Format[Example]) -> str:
    types = "".join(
        f"    - {{name: {name}, dtype: {type}}}\n" for name, type in format.features.items()
    )
    return CARD.format(
        id=exported.dataset,
        format=exported.format,
        about=format.about,
        position=exported.position,
        content_hash=exported.content_hash,
        files=data_files(exported.counts, format.suffix),
        # Without them a column that is empty in one split would have another type there.
        features=f"dataset_info:\n  features:\n{types}" if types else "",
        splits=table(exported.counts),
        copy=COPY,
    )
