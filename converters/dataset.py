"""Select, split, write, hash: one immutable dataset folder in Hugging Face layout.

    train.jsonl, validation.jsonl   one row a line
    README.md                       the dataset card
    manifest.json                   position, policy, counts, hashes; written last

The same position, policy, panel and code give byte-identical files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from converters.folder import data_files, discard_partial, hashes, table, write_synced, write_whole
from converters.formats import chat
from converters.formats.format import jsonl
from converters.selection import Selection, require_enough, select
from converters.split import SPLITS, split_of
from store import experiences
from store.errors import IntegrityError
from store.events import Store
from store.experiences import Assessed
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

| source | rows |
|---|---|
{sources}

| step of the selection | experiences |
|---|---|
{funnel}

Policy: `{policy}`. Panel: `{panel}`.
Every row was recorded with consent to training. The scores come from automatic scorers and
are only as good as those; a row is not a statement of fact. Do not publish without asking the
people whose conversations these are.
"""


class Manifest(Noun, frozen=True, kw_only=True):
    """What a dataset folder holds, and what it was made from."""

    id: str
    position: int
    policy: Policy
    panel: str
    format: str
    counts: dict[str, int]
    sources: dict[str, int]
    funnel: dict[str, int]
    files: dict[str, str]
    """SHA-256 of each file."""
    content_hash: str


def build(
    store: Store,
    folder: Path,
    *,
    dataset_id: str,
    cycle_id: str,
    policy: Policy,
    panel: str,
    as_of: int,
    moment: datetime,
    ends: Sequence[int] = (),
    forbidden: Collection[str] = (),
) -> Dataset:
    """Builds the dataset in `folder` and returns its record, which the caller leaves.

    `moment` says which quarantines are over, `ends` at which positions earlier datasets ended.
    Repeats safely: a folder that is there already must hold the same content. Raises
    NotEnoughData when the policy admits too few.
    """
    assessed = list(experiences.assessed(store, panel, as_of=as_of, moment=moment))
    selection = select(assessed, policy, forbidden=forbidden, ends=ends)
    require_enough(selection, policy, assessed, forbidden=forbidden, ends=ends)
    files = _files(selection, policy)
    sums = hashes(files)
    content_hash = digest(sums)
    manifest = Manifest(
        id=dataset_id,
        position=as_of,
        policy=policy,
        panel=panel,
        format="chat",
        counts={name.removesuffix(".jsonl"): text.count(b"\n") for name, text in files.items()},
        sources=dict(Counter(a.experience.source for a in selection.chosen)),
        funnel=selection.funnel,
        files=sums,
        content_hash=content_hash,
    )
    _write(folder, files, manifest)
    return Dataset(
        id=dataset_id,
        cycle_id=cycle_id,
        position=as_of,
        path=str(folder),
        content_hash=content_hash,
        policy=policy,
        panel=panel,
        counts=manifest.counts,
        funnel=selection.funnel,
        built_at=now(),
        members=tuple(a.position for a in selection.chosen),
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


def forget(dataset: Dataset, experience_ids: Collection[str], *, dry_run: bool = False) -> int:
    """Takes experiences out of a dataset's files; returns how many rows. Safe to repeat.

    The dataset is no longer what was recorded, and `verify` says so: it is not trained on.
    """
    taken = 0
    for split in dataset.counts:
        path = Path(dataset.path) / f"{split}.jsonl"
        if not path.is_file():
            continue
        lines = path.read_bytes().splitlines(keepends=True)
        left = [line for line in lines if json.loads(line)["id"] not in experience_ids]
        taken += len(lines) - len(left)
        if len(left) < len(lines) and not dry_run:
            partial = path.with_name(f".{path.name}.partial")
            write_synced(partial, b"".join(left))
            partial.replace(path)
    return taken


def _files(selection: Selection, policy: Policy) -> dict[str, bytes]:
    sides: dict[str, list[Assessed]] = {split: [] for split in SPLITS}
    for chosen in selection.chosen:
        sides[split_of(chosen.experience.conversation, policy.holdout_share)].append(chosen)
    return {
        f"{split}.jsonl": jsonl([chat.row(chosen) for chosen in side])
        for split, side in sides.items()
        if side or split == "train"  # an empty file is no split: loaders refuse it
    }


def _write(folder: Path, files: dict[str, bytes], manifest: Manifest) -> None:
    content = msgspec.json.format(to_json(manifest), indent=2) + b"\n"
    if (folder / "manifest.json").is_file():
        if (folder / "manifest.json").read_bytes() != content:
            raise IntegrityError(f"{folder} holds another dataset.")
        return
    discard_partial(folder)
    # The manifest last: its presence means that the dataset is whole.
    write_whole(folder, {**files, "README.md": _card(manifest).encode(), "manifest.json": content})


def _card(manifest: Manifest) -> str:
    return CARD.format(
        id=manifest.id,
        position=manifest.position,
        files=data_files(manifest.counts, ".jsonl"),
        splits=table(manifest.counts),
        sources=table(manifest.sources),
        funnel=table(manifest.funnel),
        policy=to_json(manifest.policy).decode(),
        panel=manifest.panel,
    )
