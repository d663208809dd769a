"""A disk that is full or read-only, a database that somebody else holds, a second daemon.

None of them loses anything: the daemon says 503 and when to try again, goes on reading, and goes
on writing as soon as it can.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest

from tests.durability.daemons import Place, eventually
from tests.durability.disks import ext4, fill, make_ext4, memory, turn_read_only
from tests.durability.load import Load
from tests.durability.recorded import assert_kept, integrity

MOMENT_SECONDS = 1.0
RECOVERY_SECONDS = 5.0
WAITS_FOR_LOCK_SECONDS = 9.0
"""A little less than the store waits for a lock: what is refused sooner, the queue refused."""
LEFT_BYTES = 500_000
FLOOD = {"clients": 120, "lists": (1.0, 500), "text": "Short."}
"""More lines than may wait."""


def _reads(daemon) -> bool:
    return "bhavana" in daemon.get("/metrics").raise_for_status().text


@pytest.mark.parametrize("megabytes", [4, 32])
def test_a_full_disk_is_told_at_once_and_left_behind_soon(nursery, tmp_path, megabytes):
    """503 while it is full, reads as before, and writes again once there is space."""
    with memory(tmp_path / "data", megabytes) as disk:
        place = Place(nursery, disk, tmp_path)
        with Load(place.key) as load, place.start() as daemon:
            ballast = fill(disk, leave=LEFT_BYTES)
            load.url = daemon.url
            first = eventually(lambda: load.refused_since(0, 503), "it answers 503")[0]
            time.sleep(MOMENT_SECONDS)
            refused = load.refused_since(first.moment, 503)
            assert refused, "it goes on answering 503"
            assert all(r.retry_after for r in refused)
            assert max(r.seconds for r in refused) < MOMENT_SECONDS
            assert _reads(daemon)

            freed = time.monotonic()
            ballast.unlink()
            eventually(lambda: load.acknowledged_since(freed), "it writes again", RECOVERY_SECONDS)
            load.finish()
            assert daemon.get("/readyz").status_code == 200
            assert daemon.stop() == 0
        assert_kept(load, place.store)
        assert integrity(place.data / "bhavana.db") == "ok"
        assert place.tracebacks() == 0


def test_a_disk_that_turns_read_only_takes_nothing_more(nursery, tmp_path):
    """It answers 503 and turns unready, or exits; mounted again, all acknowledged is there."""
    image = tmp_path / "disk"
    make_ext4(image, 64)
    place = Place(nursery, tmp_path / "mounted" / "data", tmp_path)
    with ext4(image, tmp_path / "mounted") as disk:
        place.data.mkdir()
        load = Load(place.key)
        with load, place.start() as daemon:
            load.url = daemon.url
            eventually(lambda: load.acknowledged, "it acknowledges")
            daemon.freeze()  # between two calls: see turn_read_only
            turned = time.monotonic()
            turn_read_only(disk)
            daemon.thaw()
            eventually(
                lambda: load.refused_since(turned, 503) or (daemon.poll() or 0) > 0,
                "it answers 503 or exits",
            )
            eventually(daemon.unready, "it turns unready or exits")
            time.sleep(MOMENT_SECONDS)  # wild repetition would show now
            assert (daemon.poll() or 1) > 0
    with ext4(image, tmp_path / "mounted"):
        with place.start() as daemon:
            assert daemon.stop() == 0
        assert_kept(load, place.store)
        assert integrity(place.data / "bhavana.db") == "ok"
    assert place.tracebacks() == 0


@pytest.mark.parametrize("seconds", [12, pytest.param(30, marks=pytest.mark.slow)])
def test_a_database_that_another_holds_fills_the_queue_and_no_more(place, seconds):
    """Refused at once when the queue is full, nothing kept meanwhile, and it goes on afterwards."""
    with Load(place.key, **FLOOD) as load, place.start() as daemon:
        with closing(sqlite3.connect(place.data / "bhavana.db", isolation_level=None)) as other:
            eventually(lambda: daemon.get("/readyz").status_code == 200, "it is ready")
            other.execute("BEGIN IMMEDIATE")
            held = time.monotonic()
            load.url = daemon.url
            time.sleep(seconds)
            refused = load.refused_since(held, 429, 503)
            assert not load.acknowledged
            assert _reads(daemon)
            other.execute("ROLLBACK")
            freed = time.monotonic()
        assert refused, "a full queue refuses"
        assert all(r.retry_after for r in refused)
        assert min(r.moment for r in refused) - held < WAITS_FOR_LOCK_SECONDS
        eventually(lambda: load.acknowledged_since(freed), "it writes again", RECOVERY_SECONDS)
        load.finish()
        assert daemon.stop() == 0
    assert_kept(load, place.store)
    assert place.tracebacks() == 0


@pytest.mark.parametrize("times", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_of_two_daemons_started_at_once_exactly_one_runs(place, tmp_path, times):
    """The other one exits with a code and names who is there; that one is killed each time."""
    for number in range(times):
        outputs = [tmp_path / f"{number}-{name}.out" for name in ("a", "b")]
        both = [place.spawn("serve", output=output) for output in outputs]
        with both[0], both[1]:
            eventually(lambda b=both: any(d.poll() is not None for d in b), "one of them ends")
            [winner] = [daemon for daemon in both if daemon.poll() is None]
            loser = 1 - both.index(winner)
            said = outputs[loser].with_suffix(".err").read_text()
            assert both[loser].wait() == 75
            assert f"pid {winner.pid}" in said
            assert "Traceback" not in said
            winner.url = eventually(lambda w=winner: place.address_of(w), "the other one listens")
            assert winner.get("/readyz").status_code == 200
