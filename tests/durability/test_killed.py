"""kill -9 at any moment: what was acknowledged is there, once, and the daemon comes back."""

from __future__ import annotations

import random
import statistics
import time

import pytest

from tests.durability.daemons import Place, eventually
from tests.durability.load import Load
from tests.durability.recorded import assert_kept, integrity

CYCLES = [15, *(pytest.param(many, marks=pytest.mark.slow) for many in (50, 1_000))]
FIRST_ACKNOWLEDGEMENT_SECONDS = 2.0
KILLED_WHILE_STARTING = 0.2


def _kill_again_and_again(place: Place, cycles: int) -> Load:
    """Kills the daemon this often, some times before it listens; all that was sent gets in."""
    moments = random.Random(1)
    waits: list[float] = []
    with Load(place.key) as load:
        for _ in range(cycles):
            if moments.random() < KILLED_WHILE_STARTING:
                with place.spawn("serve"):
                    time.sleep(moments.uniform(0.0, 0.15))
                continue
            began = time.monotonic()
            with place.start() as daemon:
                load.url = daemon.url
                first = eventually(
                    lambda began=began: load.acknowledged_since(began),
                    "something is acknowledged after the start",
                )
                waits.append(first - began)
                time.sleep(moments.uniform(0.05, 0.6))
        with place.start() as daemon:
            load.url = daemon.url
            load.finish()
            assert daemon.stop() == 0
    assert statistics.median(waits) < FIRST_ACKNOWLEDGEMENT_SECONDS
    return load


@pytest.mark.parametrize("cycles", CYCLES)
def test_killed_on_sqlite_it_keeps_what_it_acknowledged(place, cycles):
    """No acknowledged experience is lost or there twice, and the file is sound."""
    load = _kill_again_and_again(place, cycles)
    assert len(load.acknowledged) > 10 * cycles
    assert_kept(load, place.store)
    assert integrity(place.data / "bhavana.db") == "ok"


@pytest.mark.parametrize("cycles", CYCLES)
def test_killed_on_postgresql_it_keeps_what_it_acknowledged(
    nursery, tmp_path, postgresql_url, cycles
):
    """The same over PostgreSQL, which lives on while its client is killed."""
    (tmp_path / "data").mkdir()
    place = Place(nursery, tmp_path / "data", tmp_path, store=postgresql_url)
    load = _kill_again_and_again(place, cycles)
    assert len(load.acknowledged) > 10 * cycles
    assert_kept(load, place.store)
