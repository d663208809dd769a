"""Select, split, write, hash: one immutable dataset folder in Hugging Face layout.

    train.jsonl, validation.jsonl, test.jsonl   one row a line
    README.md                                   the dataset card
    selection.png                               funnel, scores, lengths, categories
    manifest.json                               position, policy, counts, hashes; written last

The same position, policy, panel and code give byte-identical files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from converters.aside import Aside
from converters.clear import select_clear
from converters.enough import require_enough
from converters.folder import (
    becoming,
    data_files,
    discard,
    discard_partial,
    hashes,
    table,
    write_synced,
)
from converters.mixture import Share
from converters.plots import draw
from converters.rows import Keys, Rows, counts
from converters.selection import Asked, Selection
from converters.split import SPLITS
from store.errors import IntegrityError
from store.events import StoreReader
from store.records import Dataset, Noun, Policy, digest, now, to_json

CARD = """---
license: other
task_categories: [text-generation]
configs:
  - config_name: default
    data_files:
{files}
---
# {id}

Conversations that Bhavana selected for fine-tuning, as of position {position} of its event log.

| split | rows |
|---|---|
{splits}

{summaries}
{shares}
| step of the selection | experiences |
|---|---|
{funnel}

![Funnel, scores, lengths and categories](selection.png)

Policy: `{policy}`. Panel: `{panel}`. Code: `{code}`.
Every row was recorded with consent to training. The scores come from automatic scorers and
are only as good as those; a row is not a statement of fact. Do not publish without asking the
people whose conversations these are.
"""


class Summary(Noun, frozen=True, kw_only=True):
    """What one split holds."""

    rows: int
    sources: dict[str, int]
    categories: dict[str, int]
    difficulties: dict[str, int]
    refusals: int
    written: int
    """Written to be learned from, not said by a model in service."""
    mean_weighted: float
    """Weighted score of the panel, 0 to 10; 10 for what a person wrote anew."""
    mean_chars: float
    """Length of the responses."""


class Manifest(Noun, frozen=True, kw_only=True):
    """What a dataset folder holds, and what it was made from."""

    id: str
    position: int
    policy: Policy
    panel: str
    code: str
    """Digest of the code that selects and writes."""
    format: str
    counts: dict[str, int]
    """Rows by split."""
    summaries: dict[str, Summary]
    funnel: dict[str, int]
    shares: dict[str, dict[str, Share]]
    """Of the mixture: what was asked of each kind, was there, and was taken."""
    files: dict[str, str]
    """SHA-256 of each file."""
    content_hash: str


def build(
    store: StoreReader,
    folder: Path,
    asked: Asked,
    *,
    dataset_id: str,
    cycle_id: str,
) -> Dataset:
    """Builds the dataset in `folder` and returns its record, which the caller leaves.

    Repeats safely: a folder that is there already must hold the same content. Raises
    NotEnoughData when the policy admits too few, IntegrityError when a forbidden text is in what
    was written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Aside(folder.parent) as aside:
        selection = select_clear(store, asked, aside)
        require_enough(store, asked, selection)
        return _build(folder, asked, selection, aside, dataset_id=dataset_id, cycle_id=cycle_id)


def _build(
    folder: Path,
    asked: Asked,
    selection: Selection,
    aside: Aside,
    *,
    dataset_id: str,
    cycle_id: str,
) -> Dataset:
    policy, rows, side = asked.policy, selection.rows, selection.rows["side"]
    splits = [name for name in SPLITS if name == SPLITS[0] or (side == name).any()]
    discard_partial(folder)
    with becoming(folder) as partial:
        files = _write_rows(partial, rows, aside)
        manifest = Manifest(
            id=dataset_id,
            position=asked.as_of,
            policy=policy,
            panel=asked.panel,
            code=code(),
            format="chat",
            counts={name: int((side == name).sum()) for name in splits},
            summaries={name: _summary(selection, rows[side == name]) for name in splits},
            funnel=selection.funnel,
            shares=selection.shares,
            files=files,
            content_hash=digest(files),
        )
        content = msgspec.json.format(to_json(manifest), indent=2) + b"\n"
        draw(partial, rows, funnel=selection.funnel, categories=selection.count("category"))
        write_synced(partial / "README.md", _card(manifest).encode())
        write_synced(partial / "manifest.json", content)  # last: its presence means whole
        if folder.exists():
            if not _holds(folder, content):
                raise IntegrityError(f"{folder} holds another dataset.")
            discard(folder)
    held_out: dict[str, tuple[int, ...]] = {
        name: tuple(rows["position"][side == name].tolist()) for name in splits if name != "train"
    }
    return Dataset(
        id=dataset_id,
        cycle_id=cycle_id,
        position=asked.as_of,
        path=str(folder),
        content_hash=manifest.content_hash,
        policy=policy,
        panel=asked.panel,
        counts=manifest.counts,
        funnel=selection.funnel,
        built_at=now(),
        members=tuple(rows["position"].tolist()),
        held_out=held_out,
    )


def verify(dataset: Dataset) -> None:
    """Raises IntegrityError when the folder no longer holds what was recorded."""
    read(dataset)


def read(dataset: Dataset) -> dict[str, bytes]:
    """What the file of each split holds. Raises IntegrityError unless it is what was recorded."""
    files: dict[str, bytes] = {}
    for split in dataset.counts:
        path = Path(dataset.path) / f"{split}.jsonl"
        if not path.is_file():
            raise IntegrityError(f"The dataset {dataset.id} lacks {path}.")
        files[split] = path.read_bytes()
    if digest(hashes({f"{split}.jsonl": files[split] for split in files})) != dataset.content_hash:
        raise IntegrityError(
            f"The dataset {dataset.id} in {dataset.path} is not what was recorded: rows were "
            "erased from it, or it was changed.",
            hint="The next cycle builds another one.",
        )
    return files


def forget(
    dataset: Dataset,
    experience_ids: Collection[str],
    positions: Collection[int] = (),
    *,
    dry_run: bool = False,
) -> int:
    """Takes experiences out of a dataset's files; returns how many rows. Safe to repeat.

    Also rows that were made from an event at one of the positions, such as a person's correction.
    The dataset is no longer what was recorded, and `verify` says so: it is not trained on.
    """
    taken, gone = 0, frozenset(positions)
    for split in dataset.counts:
        path = Path(dataset.path) / f"{split}.jsonl"
        if not path.is_file():
            continue
        lines = path.read_bytes().splitlines(keepends=True)
        left = [line for line in lines if not _is_of(json.loads(line), experience_ids, gone)]
        taken += len(lines) - len(left)
        if len(left) < len(lines) and not dry_run:
            partial = path.with_name(f".{path.name}.partial")
            write_synced(partial, b"".join(left))
            partial.replace(path)
    return taken


def _is_of(row: Mapping[str, Any], ids: Collection[str], positions: frozenset[int]) -> bool:
    return row["id"] in ids or not positions.isdisjoint(row.get("members", ()))


def _write_rows(folder: Path, rows: Rows, aside: Aside) -> dict[str, str]:
    """Writes each row to the file of its split; the SHA-256 of each file. Raises IntegrityError."""
    side = rows["side"]
    sums = {}
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for name in SPLITS:
            if name == SPLITS[0] or (side == name).any():  # loaders refuse an empty file
                path = folder / f"{name}.jsonl"
                files[name] = stack.enter_context(path.open("wb"))
                sums[path.name] = hashlib.sha256()
        for places, lines in aside.lines(rows["position"]):
            for split, file in files.items():
                of_it = np.flatnonzero(side[places] == split).tolist()
                content = b"".join([lines[place] for place in of_it])
                file.write(content)
                sums[f"{split}.jsonl"].update(content)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    return {name: found.hexdigest() for name, found in sums.items()}


def _summary(selection: Selection, rows: Rows) -> Summary:
    def named(what: str) -> dict[str, int]:
        return counts(selection.names[what], rows[what])

    def mean(values: Keys) -> float:
        return round(float(values.mean()), 4) if len(values) else 0.0

    return Summary(
        rows=len(rows),
        sources=named("source"),
        categories=named("category"),
        difficulties=named("difficulty"),
        refusals=int(rows["refuses"].sum()),
        written=int(rows["written"].sum()),
        mean_weighted=mean(rows["weighted"]),
        mean_chars=mean(rows["chars"]),
    )


def _holds(folder: Path, manifest: bytes) -> bool:
    path = folder / "manifest.json"
    return path.is_file() and path.read_bytes() == manifest


@cache
def code() -> str:
    """Digest of the code that selects and writes: with another the files may be others."""
    here = Path(__file__).parent
    parts = [*sorted(here.rglob("*.py")), here.parent / "store" / "candidates.py"]
    return digest([hashlib.sha256(part.read_bytes()).hexdigest() for part in parts])[:16]


def _card(manifest: Manifest) -> str:
    return CARD.format(
        id=manifest.id,
        position=manifest.position,
        files=data_files(manifest.counts, ".jsonl"),
        splits=table(manifest.counts),
        summaries=_summaries(manifest.summaries),
        shares=_shares(manifest.shares),
        funnel=table(manifest.funnel),
        policy=to_json(manifest.policy).decode(),
        panel=manifest.panel,
        code=manifest.code,
    )


def _summaries(summaries: Mapping[str, Summary]) -> str:
    parts = []
    for split, summary in summaries.items():
        figures = msgspec.structs.asdict(summary)
        for what in ("sources", "categories", "difficulties"):
            named = figures.pop(what).items()
            figures[what] = ", ".join(f"{name or 'none'} {n}" for name, n in named)
        parts.append(f"| {split} | |\n|---|---|\n{table(figures)}")
    return "\n\n".join(parts)


def _shares(shares: Mapping[str, Mapping[str, Share]]) -> str:
    lines = [
        f"| {what} | {kind} | {one.asked} | {one.available} | {one.taken} |"
        for what, kinds in shares.items()
        for kind, one in kinds.items()
    ]
    head = "\n| share | of | asked | available | taken |\n|---|---|---|---|---|\n"
    return head + "\n".join(lines) + "\n" if lines else ""
