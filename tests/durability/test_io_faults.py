"""A disk that fails at the n-th call: no acknowledgement without a row, and no wild repetition.

EIO means that nobody knows what is on the disk: the daemon stops acknowledging and exits, so
that it starts anew from what is there. ENOSPC is a condition that passes: it answers 503.
"""

from __future__ import annotations

import itertools
import time

import pytest

from tests.durability.daemons import Nursery, Place, eventually
from tests.durability.faults import ANY, EIO, ENOSPC, SYNC, WRITE, Faults, compiled
from tests.durability.load import Load
from tests.durability.recorded import assert_kept, integrity

KINDS = {"sync": SYNC, "write": WRITE, "any": ANY}
ERRORS = {"EIO": EIO, "ENOSPC": ENOSPC}
COMBINATIONS = list(itertools.product(KINDS, ERRORS, ("once", "forever")))
IN_CI, EVER = 20, 200
CALLS_OF_A_START = 100
"""The first one makes more on the database's files: every n up to here fails within it."""
TELLS_SECONDS = 10.0
GOES_ON_SECONDS = 0.3


def _cases():
    """A combination for every n, in turn; the higher ones are slow."""
    for n in range(1, EVER + 1):
        marks = [pytest.mark.slow] if n > IN_CI else []
        yield pytest.param(n, *COMBINATIONS[n % len(COMBINATIONS)], marks=marks)


@pytest.fixture(scope="module")
def failing_nursery(tmp_path_factory):
    """A nursery whose daemons live on a disk that can fail."""
    opened = Nursery(LD_PRELOAD=str(compiled(tmp_path_factory.mktemp("faults"))))
    yield opened
    opened.close()


@pytest.fixture
def place(failing_nursery, tmp_path):
    """A data folder on that disk."""
    (tmp_path / "data").mkdir()
    return Place(failing_nursery, tmp_path / "data", tmp_path)


@pytest.fixture
def faults_of(place, tmp_path):
    """Faults of the files whose names begin so, none as yet; they reach every later start."""

    def make(name: str, *, spares: str | None = None) -> Faults:
        spared = place.data / spares if spares else None
        found = Faults(tmp_path / "orders", place.data / name, spares=spared)
        place.environment |= found.environment
        return found

    return make


MARK = "bhavana.db.high-water"
"""A second net: where it fails, the commits go on (it has a test of its own)."""


@pytest.fixture
def faults(faults_of):
    """Faults of the database and of SQLite's files beside it."""
    return faults_of("bhavana.db", spares=MARK)


@pytest.mark.parametrize(("n", "kind", "error", "how_often"), list(_cases()))
def test_a_failing_disk_under_load_costs_nothing(place, faults, n, kind, error, how_often):
    """Whatever fails, it is told by 503 or by exit, and a clean start finds all acknowledged."""
    with Load(place.key) as load:
        with place.start() as daemon:
            load.url = daemon.url
            eventually(lambda: load.acknowledged, "it acknowledges")
            armed = time.monotonic()
            forever = how_often == "forever"
            faults.arm(kinds=KINDS[kind], nth=n, error=ERRORS[error], forever=forever)
            eventually(lambda: faults.failed, "the call fails", 30)
            if error == "EIO":
                assert daemon.wait(TELLS_SECONDS) > 0, "it exits by itself, for a restart"
            elif forever:
                eventually(
                    lambda: load.refused_since(armed, 503) or (daemon.poll() or 0) > 0,
                    "it answers 503 or exits",
                    TELLS_SECONDS,
                )
            time.sleep(GOES_ON_SECONDS)  # wild repetition would show now
        faults.disarm()
        with place.start() as daemon:
            load.url = daemon.url
            load.finish()
            assert daemon.stop() == 0
    assert_kept(load, place.store)
    assert integrity(place.data / "bhavana.db") == "ok"
    assert place.tracebacks() == 0


@pytest.mark.parametrize("how_often", ["once", "forever"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_high_water_mark_that_cannot_be_written_holds_nobody_up(
    place, faults_of, error, how_often
):
    """Every request is answered or the daemon exits; a clean start finds all acknowledged."""
    faults = faults_of(MARK)
    with Load(place.key) as load:
        with place.start() as daemon:
            load.url = daemon.url
            eventually(lambda: load.acknowledged, "it acknowledges")
            forever = how_often == "forever"
            faults.arm(kinds=ANY, nth=1, error=ERRORS[error], forever=forever)
            eventually(lambda: faults.failed, "the call fails", 30)
            failed = time.monotonic()
            eventually(
                lambda: (
                    load.acknowledged_since(failed + GOES_ON_SECONDS)
                    or load.refused_since(failed, 503)
                    or (daemon.poll() or 0) > 0
                ),
                "it answers, or exits",
                TELLS_SECONDS,
            )
        faults.disarm()
        with place.start() as daemon:
            load.url = daemon.url
            load.finish()
            assert daemon.stop() == 0
    assert_kept(load, place.store)
    assert place.tracebacks() == 0


@pytest.mark.parametrize(
    "n",
    [
        1,
        2,
        3,
        5,
        8,
        13,
        21,
        34,
        *(pytest.param(n, marks=pytest.mark.slow) for n in range(40, 201, 5)),
    ],
)
@pytest.mark.parametrize("error", ERRORS)
def test_a_failing_disk_at_the_first_start_leaves_nothing_half_made(place, faults_of, n, error):
    """The start fails with an exit code and without a traceback; the next one succeeds.

    A start that needed fewer calls has gone well: then the disk failed too late.
    """
    faults = faults_of("bhavana.db")
    faults.arm(kinds=ANY, nth=n, error=ERRORS[error], forever=True)
    with place.spawn("serve") as daemon:
        eventually(
            lambda: daemon.poll() is not None or place.address_of(daemon),
            "it ends or listens",
            TELLS_SECONDS,
        )
        if daemon.poll() is None:
            assert n > CALLS_OF_A_START
        else:
            assert daemon.poll() > 0
            assert faults.failed
    faults.disarm()
    with place.start() as daemon:
        assert daemon.get("/readyz").status_code == 200
        assert daemon.stop() == 0
    assert integrity(place.data / "bhavana.db") == "ok"
    assert place.tracebacks() == 0
