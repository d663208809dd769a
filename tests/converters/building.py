"""A dataset in one call: what is asked of a build, with what tests mostly ask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters import dataset as datasets
from converters.selection import Asked
from converters.split import Split
from store.events import Store
from store.records import Dataset, now


def build(
    store: Store,
    folder: Path,
    *,
    dataset_id: str = "dataset-1",
    cycle_id: str = "cycle-1",
    earlier: Mapping[int, Split] | None = None,
    **asked: Any,
) -> Dataset:
    """The record of a dataset built in the folder; `asked` are the parts of Asked."""
    return datasets.build(
        store,
        folder,
        Asked(**{"panel": "panel-1", "as_of": store.position(), "moment": now()} | asked),
        dataset_id=dataset_id,
        cycle_id=cycle_id,
        earlier=earlier,
    )
