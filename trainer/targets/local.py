"""The local target: a folder of immutable releases and a `current` link that is switched at once.

releases/release-…/      adapter_config.json, adapter_model.safetensors
releases/current      -> release-…   absent when the untouched base is in service
releases/current-math -> release-…   the same of another line than the main one
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from store.errors import IntegrityError, NotFound
from store.records import MAIN
from trainer.adapter import FILES, adapter_hash
from trainer.targets.limits import ANY

CURRENT = "current"


class LocalTarget:
    """Releases in a folder of this machine."""

    name = "local"
    limits = ANY

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, release_id: str, adapter: Path, adapter_hash: str) -> str:
        """Copies the adapter; a release that is there already must hold the same bytes."""
        release = self.folder / release_id
        if not release.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = self.folder / f".{release_id}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            self._check(adapter, adapter_hash)
            for name in FILES:
                shutil.copyfile(adapter / name, partial / name)
                _sync(partial / name)
            self._check(partial, adapter_hash)
            partial.rename(release)
            _sync(self.folder)
        self._check(release, adapter_hash)
        return str(release)

    def activate(self, release_id: str | None, line: str = MAIN) -> None:
        """Switches the link by rename, so that a reader sees the old release or the new one."""
        link = self._link(line)
        if release_id is None:
            link.unlink(missing_ok=True)
            return
        self.adapter(release_id)
        partial = link.with_name(f".{link.name}.{os.getpid()}")
        partial.unlink(missing_ok=True)
        partial.symlink_to(release_id)
        partial.replace(link)
        _sync(self.folder)

    def active(self, line: str = MAIN) -> str | None:
        """The name that the line's link points to."""
        link = self._link(line)
        return str(link.readlink()) if link.is_symlink() else None

    def adapter(self, release_id: str) -> Path:
        """The release's folder. Raises NotFound."""
        release = self.folder / release_id
        if not release.is_dir():
            raise NotFound(
                f"There is no release {release_id!r} in {self.folder}.",
                hint="`bhavana status` shows the one in service.",
            )
        return release

    def _link(self, line: str) -> Path:
        return self.folder / (CURRENT if line == MAIN else f"{CURRENT}-{line}")

    def _check(self, release: Path, expected: str) -> None:
        if adapter_hash(release) != expected:
            raise IntegrityError(f"{release} is not the adapter that was evaluated.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
