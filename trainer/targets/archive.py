"""The archive: every release's adapter on this machine, whatever the target; nothing edits it.

releases/release-…/      adapter_config.json, adapter_model.safetensors

Gates compare with it, the next training may begin with it, and a target that has lost a release
gets it from here again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import IntegrityError, NotFound, Unavailable
from trainer.adapter import FILES, adapter_hash

PARTIAL = ".partial"


class Archive:
    """Adapters by release."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, release: str, adapter: Path, expected: str) -> Path:
        """Copies the adapter, synced; a release that is there already must hold the same bytes.

        Raises IntegrityError for other bytes than expected, and Unavailable where the disk does not
        take them; the folder is whole or not there.
        """
        kept = self.folder / release
        with on_disk(self.folder):
            if not kept.is_dir():
                self._copy(adapter, self.folder / f".{release}{PARTIAL}", expected).rename(kept)
                sync(self.folder)
        _require(kept, expected)
        return kept

    def adapter(self, release: str) -> Path:
        """The release's folder. Raises NotFound."""
        kept = self.folder / release
        if not kept.is_dir():
            raise NotFound(
                f"There is no release {release!r} in {self.folder}.",
                hint="`bhavana status` shows the one in service.",
            )
        return kept

    def sweep(self) -> None:
        """Deletes what a kill left half copied. Only for who may promote: nobody copies now."""
        for partial in self.folder.glob(f".*{PARTIAL}"):
            shutil.rmtree(partial, ignore_errors=True)

    def _copy(self, adapter: Path, partial: Path, expected: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            _require(adapter, expected)
            for name in FILES:
                shutil.copyfile(adapter / name, partial / name)
                sync(partial / name)
            _require(partial, expected)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)  # on a full disk half of it is in the way
            raise
        return partial


@contextmanager
def on_disk(folder: Path) -> Iterator[None]:
    """Says in the house's words that a disk does not take what it is given. Raises Unavailable."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{folder} cannot be written: {error.strerror}.",
            hint="Make room there, or let this user write to it. What served before serves on.",
        ) from error


def sync(path: Path) -> None:
    """Brings a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require(folder: Path, expected: str) -> None:
    if adapter_hash(folder) != expected:
        raise IntegrityError(f"{folder} is not the adapter that was evaluated.")
