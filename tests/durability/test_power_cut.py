"""A power cut at any moment: what was acknowledged is on the disk, not only in some cache.

The daemon works on a file system in a file. It is stopped, the file is copied as it is, and the
copy is mounted: whatever the kernel had not yet been made to write is missing there.
"""

from __future__ import annotations

import random
import sqlite3
import time

import pytest
from sqlalchemy.exc import DBAPIError

from tests.durability.daemons import Place, eventually
from tests.durability.disks import copy_of, ext4, make_ext4
from tests.durability.load import Load
from tests.durability.recorded import integrity, recorded

MANY = pytest.param(200, marks=pytest.mark.slow)
MEGABYTES = 1024
"""Room for the load of the longest run; the image is sparse."""
SETTLES_SECONDS = 0.05
WITHOUT_SYNC = """
from sqlalchemy import event
from sqlalchemy.pool import Pool

@event.listens_for(Pool, "checkout")
def _never_sync(connection, _record, _proxy):
    connection.execute("PRAGMA synchronous=OFF")
"""
"""Run in the daemon's process before it starts, for the negative control only."""


@pytest.fixture
def cut_the_power(nursery, tmp_path):
    """Cuts the power this often; returns how much was acknowledged, and how much of it lost."""

    def cut(cycles: int, *, synced: bool = True) -> tuple[int, int]:
        moments = random.Random(2)
        image, copy = tmp_path / "disk", tmp_path / "copy"
        make_ext4(image, MEGABYTES)
        lost: set[str] = set()
        with ext4(image, tmp_path / "mounted") as disk:
            place = Place(nursery, disk / "data", tmp_path, first="" if synced else WITHOUT_SYNC)
            place.data.mkdir()
            with Load(place.key) as load, place.start() as daemon:
                load.url = daemon.url
                for _ in range(cycles):
                    began = time.monotonic()
                    eventually(lambda s=began: load.acknowledged_since(s), "it acknowledges")
                    time.sleep(moments.uniform(0.05, 0.4))
                    daemon.freeze()
                    copy_of(image, copy)
                    time.sleep(SETTLES_SECONDS)  # answers on their way are answers
                    acknowledged = set(load.acknowledged)
                    with ext4(copy, tmp_path / "after") as disk_after:
                        after = Place(nursery, disk_after / "data", tmp_path)
                        if synced:
                            with after.start():
                                pass  # it came up, which is all that is asked
                        lost |= acknowledged - _found(after)
                    daemon.thaw()
        assert not load.wrong
        return len(acknowledged), len(lost)

    return cut


def _found(place: Place) -> set[str]:
    """What is recorded there; nothing when the file is damaged or not even there."""
    try:
        sound = integrity(place.data / "bhavana.db") == "ok"
        return set(recorded(place.store)) if sound else set()
    except (sqlite3.Error, DBAPIError):
        return set()


@pytest.mark.parametrize("cycles", [10, MANY])
def test_what_was_acknowledged_survives_a_power_cut(cut_the_power, cycles):
    """A daemon starts on every copy, which holds all that was acknowledged before it was made."""
    acknowledged, lost = cut_the_power(cycles)
    assert acknowledged > 10 * cycles
    assert lost == 0


def test_without_sync_the_same_power_cuts_lose(cut_the_power):
    """The negative control: with synchronous=OFF this test would find what is missing."""
    acknowledged, lost = cut_the_power(3, synced=False)
    assert 0 < lost <= acknowledged
