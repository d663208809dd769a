"""The training jobs in the data folder: which is under way, and how it gets on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from store.errors import NotFound
from trainer.attempts import QUARANTINED
from trainer.progress import Progress, is_at_work, progress_of

FOLLOW_SECONDS = 0.5
PATIENCE = 4
"""So many looks in a row at which nobody holds the folder: between two, a child may be starting."""


def newest(data: Path) -> Path | None:
    """The folder of the newest training job; None where none was ever started."""
    folders = [p.parent for p in (data / "runs").glob("*/job.json") if not _is_aside(p.parent)]
    return max(folders, default=None, key=lambda folder: folder.name)  # ids are in order of time


def under_way(data: Path) -> Progress | None:
    """Where the training is that runs now; None where none does."""
    folder = newest(data)
    return progress_of(folder) if folder is not None and is_at_work(folder) else None


def job_folder(data: Path, name: str | None) -> Path:
    """The folder of the run of this name, or of the newest. Raises NotFound."""
    found = newest(data) if name is None else data / "runs" / name
    if found is None or found.parent != data / "runs" or not (found / "job.json").is_file():
        known = sorted(path.parent.name for path in (data / "runs").glob("*/job.json"))
        raise NotFound(
            f"There is no training run {name!r} in {data / 'runs'}."
            if name
            else f"Nothing was ever trained in {data}.",
            hint=f"There are {', '.join(known[-3:])}."
            if known
            else "Training is a step of a cycle: `bhavana cycle` turns one.",
        )
    return found


def follow(folder: Path) -> Iterator[Progress]:
    """Where the job is, again and again, until it has ended or nobody works on it any more."""
    unheld = 0
    while True:
        found = progress_of(folder)
        yield found
        unheld = 0 if found.at_work else unheld + 1
        if found.finished or found.is_over or unheld >= PATIENCE or not folder.is_dir():
            return
        time.sleep(FOLLOW_SECONDS)


def _is_aside(folder: Path) -> bool:
    return QUARANTINED in folder.name
