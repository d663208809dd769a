"""Several daemons on one PostgreSQL: each takes experiences, one turns the loop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from daemon.settings import Settings
from daemon.wiring import Parts, open_target
from store import cycles, experiences, keys, schedule
from store.errors import Busy
from store.events import Store
from store.records import now
from store.tables import leases


@pytest.fixture
def both(serving, tmp_path, postgresql_url):
    """Two daemons with folders of their own over one database, and the store."""
    url = {"BHAVANA_STORE__URL": postgresql_url}
    with (
        serving(tmp_path / "a", **url) as first,
        serving(tmp_path / "b", **url) as second,
        Store(postgresql_url) as store,
    ):
        yield first, second, store


def test_two_folders_of_one_name_are_two_holders_of_the_lease(store, tmp_path):
    """As in two containers: each keeps its own through a restart, and neither takes the other's."""

    def holder():
        settings = Settings(data_dir=str(tmp_path / "data"))
        return Parts(settings=settings, store=store, target=open_target(settings)).holder

    (tmp_path / "data").mkdir()
    first = holder()
    assert holder() == first
    (tmp_path / "data").rename(tmp_path / "of-another-container")
    (tmp_path / "data").mkdir()
    schedule.acquire(store, first)
    with pytest.raises(Busy):
        schedule.acquire(store, holder())


def test_a_folder_of_a_long_name_may_hold_the_lease(store, tmp_path):
    """Its path is a part of the holder's name, for which PostgreSQL has only so much room."""
    data = tmp_path / ("x" * 200)
    data.mkdir()
    settings = Settings(data_dir=str(data))
    parts = Parts(settings=settings, store=store, target=open_target(settings))
    assert schedule.acquire(store, parts.holder) == 1
    assert len(parts.holder) <= leases.c.holder.type.length


def test_each_experience_is_kept_once_whoever_takes_it(both, experience):
    """A frontend that retries at the other daemon doubles nothing."""
    *daemons, store = both
    text = keys.create(store, name="t", scopes=("ingest",), source="web", actor="t")[1]
    names = [f"e-{i % 20}" for i in range(80)]

    def post(number):
        item = experience | {"id": names[number]}
        return daemons[number % 3 % 2].post("/v1/experiences", text, item).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(post, range(len(names))))
    assert statuses == [200] * 60 + [201] * 20
    assert experiences.count_by_source(store) == {"web": 20}
    assert [e.position for e in store.follow()] == list(range(1, store.position() + 1))


def test_one_of_them_turns_the_loop(both, eventually):
    """What is due is turned once, whichever daemon sees it first."""
    *_, store = both
    eventually(lambda: schedule.schedule(store), "a daemon planned the first cycle")
    for _ in range(3):
        before = cycles.last(store)
        schedule.due_at(store, now())
        ended = eventually(
            lambda before=before: (
                (last := cycles.last(store)) is not None
                and last != before
                and last.state != "running"
                and last
            ),
            "a cycle ended",
        )
        assert ended.state == "too_few"
    assert len(list(store.follow(types=["cycle.started"]))) == 3
