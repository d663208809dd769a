"""Checkpoints that can be trusted: whole, of this very job, and no more than the disk can hold.

transformers writes a folder file by file, so one that was killed leaves half a folder that looks
like a checkpoint. Here a mark with the hash of each file is written last; without one, or with
another hash, a folder is thrown away and the one before it is resumed from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from store.errors import DoesNotFit, Unavailable
from store.records import Noun
from trainer.base import CHUNK_BYTES
from trainer.job import is_first, write_record

MARK = "complete.json"
NEVER_KEPT = "training_args.bin"
"""A pickle, which nobody reads here."""
SPACE_FACTOR = 1.2
BYTES_A_PARAMETER = 12
"""The weight and AdamW's two moments, in float32."""


class Mark(Noun, frozen=True, kw_only=True):
    """Says that a checkpoint is whole: complete.json, written last."""

    job: str
    """Digest of all that the training depends on."""
    step: int
    files: dict[str, str]
    """SHA-256 by name."""


class Checkpoints:
    """The checkpoints of one job."""

    def __init__(self, folder: Path, job: str, limit: int) -> None:
        self.folder = folder
        self.job = job
        self.limit = limit

    def newest(self) -> Path | None:
        """The newest one that is whole and of this job; those after it are thrown away."""
        for path in self._all():
            fault = self._fault(path)
            if fault is None:
                return path
            if is_first():
                print(f"{path.name} is thrown away: {fault}")
                shutil.rmtree(path)
        return None

    def seal(self, step: int) -> None:
        """Marks the checkpoint of this step as whole, then throws away those over the limit."""
        path = self.folder / f"checkpoint-{step}"
        (path / NEVER_KEPT).unlink(missing_ok=True)
        files = {file.name: _hash(file, sync=True) for file in sorted(path.iterdir())}
        write_record(path / MARK, Mark(job=self.job, step=step, files=files))
        _sync(self.folder)
        for older in self._all()[self.limit :]:
            shutil.rmtree(older)

    def forget(self) -> None:
        """Throws all of them away: the job is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def require_space(self, model: Any) -> None:
        """Raises DoesNotFit when the disk cannot hold what the whole run will write."""
        one = checkpoint_bytes(model)
        # One more than the limit: the oldest goes when the newest is whole.
        needed = int((one * (self.limit + 1) + one // 3) * SPACE_FACTOR)
        self.folder.mkdir(parents=True, exist_ok=True)
        if (free := self._free()) < needed - self._held():
            raise DoesNotFit(
                f"The disk of {self.folder} has {_mb(free)} free; checkpoints and adapter need "
                f"{_mb(needed)}.",
                hint="Free some, or lower trainer.recipe.save_total_limit or lora_r.",
            )

    def require_space_for_next(self, model: Any) -> None:
        """Raises Unavailable when the disk cannot hold one more checkpoint."""
        needed = int(checkpoint_bytes(model) * SPACE_FACTOR)
        if (free := self._free()) < needed:
            raise Unavailable(
                f"The disk of {self.folder} has {_mb(free)} free; the next checkpoint needs "
                f"{_mb(needed)}.",
                hint="Free some: the training goes on from the checkpoint before.",
            )

    def _all(self) -> list[Path]:
        """The newest first."""
        found = [p for p in self.folder.glob("checkpoint-*") if p.name[11:].isdigit()]
        return sorted(found, key=lambda p: int(p.name[11:]), reverse=True)

    def _fault(self, path: Path) -> str | None:
        try:
            mark = msgspec.json.decode((path / MARK).read_bytes(), type=Mark)
        except (OSError, msgspec.DecodeError):
            return "it was not finished"
        if mark.job != self.job:
            return "it is of another job, dataset or version"
        for name, expected in mark.files.items():
            file = path / name
            if not file.is_file() or _hash(file) != expected:
                return f"{name} is not what was written"
        return None

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _held(self) -> int:
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def checkpoint_bytes(model: Any) -> int:
    """About how large a checkpoint of the model's trainable weights is."""
    trained: int = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return BYTES_A_PARAMETER * trained


def _hash(path: Path, *, sync: bool = False) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha.update(chunk)
        if sync:
            os.fsync(file.fileno())
    return sha.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
