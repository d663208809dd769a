"""PostgreSQL goes away under load, as a whole or one connection at a time, and comes back."""

from __future__ import annotations

import os
import signal
import statistics
import time

import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.durability.daemons import Place, eventually
from tests.durability.load import Load
from tests.durability.recorded import assert_kept

RECOVERY_SECONDS = 5.0
UNDER_LOAD_SECONDS = 0.3
TERMINATE = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def restart(postgresql_server):
    """Stops the server at once, as a crash would, and starts it again."""
    pid_file = postgresql_server.pgdata / "postmaster.pid"

    def run() -> None:
        stopped = postgresql_server.get_pid()
        os.kill(stopped, signal.SIGQUIT)
        eventually(lambda: not pid_file.exists(), "PostgreSQL ends")
        postgresql_server.ensure_postgres_running()
        assert postgresql_server.get_pid() != stopped

    return run


@pytest.fixture
def terminate(postgresql_url):
    """Ends every connection to the test's database but the one that asks for it."""

    def run() -> None:
        with create_engine(postgresql_url, poolclass=NullPool).connect() as connection:
            assert connection.execute(TERMINATE).scalar_one() > 0

    return run


@pytest.mark.parametrize("fault", ["restart", "terminate"])
@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_database_that_goes_and_comes_back_costs_nothing(
    nursery, tmp_path, postgresql_url, request, fault, times
):
    """The daemon lives on, acknowledges again within seconds, and nothing is lost or doubled."""
    go_away = request.getfixturevalue(fault)
    (tmp_path / "data").mkdir()
    place = Place(nursery, tmp_path / "data", tmp_path, store=postgresql_url)
    waits: list[float] = []
    with Load(place.key) as load, place.start() as daemon:
        load.url = daemon.url
        for _ in range(times):
            began = time.monotonic()
            eventually(lambda b=began: load.acknowledged_since(b), "it acknowledges")
            time.sleep(UNDER_LOAD_SECONDS)
            go_away()
            back = time.monotonic()
            recovered = eventually(lambda b=back: load.acknowledged_since(b), "it recovers")
            waits.append(recovered - back)
        load.finish()
        assert daemon.stop() == 0
    assert statistics.median(waits) < RECOVERY_SECONDS
    assert_kept(load, place.store)
    assert place.tracebacks() == 0
