"""What the fault tests share: a nursery of daemons, and a place for a store of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.durability.daemons import Nursery, Place


@pytest.fixture(scope="session")
def nursery(vouched: Path) -> Iterator[Nursery]:
    """Where this worker's daemons are born."""
    opened = Nursery()
    yield opened
    opened.close()


@pytest.fixture
def place(nursery: Nursery, tmp_path: Path) -> Place:
    """A data folder of the test's own, with a fresh SQLite store."""
    (tmp_path / "data").mkdir()
    return Place(nursery, tmp_path / "data", tmp_path)
