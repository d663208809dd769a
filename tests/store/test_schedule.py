"""When the next cycle is due, and who may turn it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from store import schedule
from store.errors import Busy
from store.events import Store

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets: a list whose last value is the present."""
    moments = [NOON]
    monkeypatch.setattr(schedule, "now", lambda: moments[-1])
    return moments


def test_the_schedule_is_empty_before_the_first_start(store):
    """Nothing is planned in a fresh store."""
    assert schedule.schedule(store) is None


def test_what_is_planned_outlives_the_process(store, clock):
    """The next time is read back as it was set, also by another store on the same file."""
    schedule.due_at(store, NOON)
    with Store(store.url) as other:
        assert schedule.schedule(other) == schedule.Schedule(next_run_at=NOON)


def test_noting_a_run_keeps_when_it_was_and_plans_the_next(store, clock):
    """After a run both times are known, and asking for another keeps the last one."""
    later = NOON + timedelta(hours=24)
    schedule.due_at(store, NOON)
    assert schedule.take_due(store, later)
    assert not schedule.take_due(store, later)
    assert schedule.schedule(store) == schedule.Schedule(next_run_at=later, last_run_at=NOON)
    schedule.due_at(store, NOON)
    assert schedule.schedule(store) == schedule.Schedule(next_run_at=NOON, last_run_at=NOON)


def test_another_holder_is_refused_until_the_lease_runs_out(store, clock):
    """Busy names the holder; after the expiry the lease goes over with a new fencing token."""
    assert schedule.acquire(store, "a") == 1
    clock.append(NOON + timedelta(seconds=schedule.LEASE_SECONDS - 1))
    with pytest.raises(Busy, match=r"^a turns the loop"):
        schedule.acquire(store, "b")
    clock.append(NOON + timedelta(seconds=schedule.LEASE_SECONDS))
    assert schedule.acquire(store, "b") == 2
    with pytest.raises(Busy):
        schedule.acquire(store, "a")


def test_the_same_holder_takes_its_lease_again_at_once(store, clock):
    """A restarted daemon need not wait for its own lease, and renewing extends it."""
    assert schedule.acquire(store, "a") == 1
    clock.append(NOON + timedelta(seconds=schedule.LEASE_SECONDS - 1))
    assert schedule.acquire(store, "a") == 1
    clock.append(NOON + timedelta(seconds=schedule.LEASE_SECONDS + 1))
    with pytest.raises(Busy):
        schedule.acquire(store, "b")


def test_a_lease_that_was_given_back_is_free(store, clock):
    """Releasing lets the next holder in at once; releasing what is not held does nothing."""
    with schedule.holding(store, "a"):
        with pytest.raises(Busy):
            schedule.acquire(store, "b")
        schedule.release(store, "b")
        with pytest.raises(Busy):
            schedule.acquire(store, "b")
    assert schedule.acquire(store, "b") == 2


def test_a_lease_is_given_back_when_the_work_fails(store, clock):
    """An error inside the block does not leave the lease behind."""
    with pytest.raises(ZeroDivisionError), schedule.holding(store, "a"):
        _ = 1 / 0
    assert schedule.acquire(store, "b") == 2


def test_a_fence_is_void_once_another_holder_took_the_lease(store, clock):
    """A daemon that slept through its lease can no longer leave a cycle's records."""
    from store import cycles
    from store.records import Cycle

    cycle = Cycle(id="cycle-1", reason="test", started_at=NOON, position=0)
    with schedule.holding(store, "first") as fence:
        cycles.start(store, cycle, fence.check)
        clock.append(NOON + timedelta(seconds=schedule.LEASE_SECONDS + 1))
        schedule.acquire(store, "second")
        with pytest.raises(Busy, match="took over"):
            cycles.finish(store, cycle, fence.check)
    assert cycles.running(store) == cycle
