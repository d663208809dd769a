"""What a target is given: where it may write, what it may read, and to whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from trainer.targets.archive import Archive
from trainer.targets.settings import TargetsSettings
from trainer.targets.target import Journal

Tell = Callable[[str], None]
"""Where a dry run says what would be done."""


class Place(Struct, frozen=True, kw_only=True):
    """What a target works with."""

    folder: Path
    """Where the local target's pointers lie; beside the releases, which they name."""
    archive: Archive
    settings: TargetsSettings
    journal: Journal
    work: Path
    """Scratch of this target's own; may be deleted at any time."""
    tell: Tell | None = None
    """In a dry run what would change something is told here; None: it is done."""
