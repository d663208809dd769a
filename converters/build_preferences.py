"""What people prefer, as the dataset of a cycle: for a recipe whose method is dpo or kto.

A folder like any other dataset's, immutable and content-hashed. Each row tells the positions of
the events that it was made from, by which an erasure finds it: those of the experience and of
whoever spoke of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters import PREFERENCES
from converters.folder import discard, discard_partial, write_whole
from converters.preferences import Mark, Pair
from converters.preferred import choose, written
from converters.selection import Asked
from converters.split import SPLITS
from store.errors import IntegrityError, NotEnoughData
from store.events import StoreReader
from store.records import Dataset, now


def build_preferences(
    store: StoreReader,
    folder: Path,
    asked: Asked,
    *,
    format: str,
    dataset_id: str,
    cycle_id: str,
) -> Dataset:
    """Builds the dataset in `folder` and returns its record, which the caller leaves.

    Repeats safely: a folder that is there already must hold the same content. Raises
    NotEnoughData when people have said too little.
    """
    chosen = choose(store, asked, format)
    if SPLITS[0] not in chosen.by_split:
        raise NotEnoughData(
            f"All {chosen.funnel['selected']} rows are held out; none is left to train on.",
            hint="Decide on more answers, or lower policy.holdout_share and policy.test_share.",
        )

    def row(one: Pair | Mark) -> Mapping[str, Any]:
        return {**PREFERENCES[format].format.row(one), "members": one.members}

    files, contents = written(chosen, asked, format, row=row)
    discard_partial(folder)
    if folder.exists():
        manifest = folder / "manifest.json"
        if not manifest.is_file() or manifest.read_bytes() != files["manifest.json"]:
            raise IntegrityError(f"{folder} holds another dataset.")
        discard(folder)
    write_whole(folder, files)
    held_out: dict[str, tuple[int, ...]] = {
        split: tuple(sorted({position for one in some for position in one.members}))
        for split, some in chosen.by_split.items()
        if split != SPLITS[0]
    }
    return Dataset(
        id=dataset_id,
        cycle_id=cycle_id,
        position=asked.as_of,
        path=str(folder),
        content_hash=contents.content_hash,
        policy=asked.policy,
        panel=asked.panel,
        counts=contents.counts,
        funnel=chosen.funnel,
        built_at=now(),
        members=chosen.members,
        held_out=held_out,
        format=format,
    )
