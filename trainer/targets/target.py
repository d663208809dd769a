"""The contract of a target: where a release goes into service. Every step is idempotent."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from store.records import MAIN
from trainer.targets.limits import Limits


class Target(Protocol):
    """A place where people can talk to releases, to one of each line."""

    name: str
    limits: Limits
    """What it can serve; looked at before training."""

    def publish(self, release_id: str, adapter: Path, adapter_hash: str) -> str:
        """Puts the adapter there without serving it; returns its location."""

    def activate(self, release_id: str | None, line: str = MAIN) -> None:
        """Serves this release on this line from now on, in one step; None is the untouched base.

        Other lines serve on what they did.
        """

    def active(self, line: str = MAIN) -> str | None:
        """What is served on this line now; None is the untouched base."""

    def adapter(self, release_id: str) -> Path:
        """Folder of a published release's adapter, for the probe and for people."""
