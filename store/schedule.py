"""When the next cycle is due, and who may turn it. Operational state, not facts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from store.engine import in_our_words
from store.errors import Busy, Unavailable
from store.events import Store
from store.records import MAIN, Noun, now
from store.tables import leases, schedules

CYCLE = "cycle"
RETENTION = "retention"
REFIT = "refit"
LEASE_SECONDS = 60.0


class Schedule(Noun, frozen=True, kw_only=True):
    """When something runs next, and when it last did."""

    next_run_at: datetime
    last_run_at: datetime | None = None


def schedule(store: Store, name: str = CYCLE) -> Schedule | None:
    """The schedule of the cycle, or of something else; None before its first time."""
    with in_our_words(), store.reading.connect() as connection:
        row = connection.execute(select(schedules).where(schedules.c.name == name)).first()
    if row is None:
        return None
    last = None if row.last_run_at is None else datetime.fromisoformat(row.last_run_at)
    return Schedule(next_run_at=datetime.fromisoformat(row.next_run_at), last_run_at=last)


def of_line(line: str) -> str:
    """The name of the schedule by which cycles of this line are due."""
    return CYCLE if line == MAIN else f"{CYCLE}/{line}"


def due_at(store: Store, moment: datetime, name: str = CYCLE) -> None:
    """Sets when the next cycle is due; now, to ask for one."""
    previous = schedule(store, name)
    last = None if previous is None else previous.last_run_at
    _write(store, name, Schedule(next_run_at=moment, last_run_at=last))


def plan(store: Store, moment: datetime, name: str = CYCLE) -> None:
    """Sets when the first cycle, or something else, is due, unless that is set already."""

    def write(connection: Connection) -> None:
        known = connection.execute(select(schedules).where(schedules.c.name == name)).first()
        if known is None:
            connection.execute(insert(schedules).values(name=name, next_run_at=moment.isoformat()))

    store.write(write)


def take_due(store: Store, next_run_at: datetime, name: str = CYCLE) -> bool:
    """True for the one caller that may run what is due now; it is next due then.

    However many daemons ask at once, one of them hears True.
    """
    moment = now()

    def write(connection: Connection) -> bool:
        taken = connection.execute(
            update(schedules)
            .where(schedules.c.name == name, schedules.c.next_run_at <= moment.isoformat())
            .values(next_run_at=next_run_at.isoformat(), last_run_at=moment.isoformat())
        )
        return taken.rowcount == 1

    return store.write(write)


def ran(store: Store, next_run_at: datetime, name: str = CYCLE) -> None:
    """Notes that a cycle, or something else, ran just now, and when it is due again."""
    _write(store, name, Schedule(next_run_at=next_run_at, last_run_at=now()))


def _write(store: Store, name: str, new: Schedule) -> None:
    last = None if new.last_run_at is None else new.last_run_at.isoformat()
    row = {"name": name, "next_run_at": new.next_run_at.isoformat(), "last_run_at": last}

    def write(connection: Connection) -> None:
        connection.execute(delete(schedules).where(schedules.c.name == name))
        connection.execute(insert(schedules).values(row))

    store.write(write)


def acquire(store: Store, holder: str, name: str = CYCLE) -> int:
    """Takes or renews the cycle's lease, or another one, and returns its fencing token.

    The same holder takes its own lease again at once, which is how a restarted daemon resumes.
    Raises Busy while another holder's lease runs.
    """
    moment = now()
    expires = (moment + timedelta(seconds=LEASE_SECONDS)).isoformat()

    def write(connection: Connection) -> int:
        row = connection.execute(
            select(leases).where(leases.c.name == name).with_for_update()
        ).first()
        if row is None:
            connection.execute(
                insert(leases).values(name=name, holder=holder, token=1, expires_at=expires)
            )
            return 1
        if row.holder != holder and datetime.fromisoformat(row.expires_at) > moment:
            raise Busy(f"{row.holder} {_does(name)}, until {row.expires_at} at least.")
        token: int = row.token + (row.holder != holder)
        connection.execute(
            update(leases)
            .where(leases.c.name == name)
            .values(holder=holder, token=token, expires_at=expires)
        )
        return token

    return store.write(write)


def release(store: Store, holder: str, name: str = CYCLE) -> None:
    """Gives the lease back, if it is still this holder's."""
    given_back = (
        update(leases)
        .where(leases.c.name == name, leases.c.holder == holder)
        .values(expires_at=now().isoformat())
    )
    store.write(lambda connection: connection.execute(given_back))


def _does(name: str) -> str:
    return "turns the loop" if name == CYCLE else f"changes {name}"


class Fence(Noun, frozen=True, kw_only=True):
    """Proof of who may leave records: void once somebody else took the lease."""

    holder: str
    token: int
    name: str = CYCLE

    def check(self, connection: Connection) -> None:
        """Raises Busy when the lease went to another holder. In the record's own transaction."""
        row = connection.execute(
            select(leases).where(leases.c.name == self.name).with_for_update()
        ).first()
        if row is None or (row.holder, row.token) != (self.holder, self.token):
            raise Busy(
                f"Another daemon took over and {_does(self.name)}; what this one made is not "
                "recorded."
            )


@contextmanager
def holding(store: Store, holder: str, name: str = CYCLE) -> Iterator[Fence]:
    """Holds a lease inside the block. Raises Busy."""
    token = acquire(store, holder, name)
    try:
        yield Fence(holder=holder, token=token, name=name)
    finally:
        release(store, holder, name)


@contextmanager
def keeping(store: Store, holder: str, name: str = CYCLE) -> Iterator[Fence]:
    """The same for work of unknown length: the lease is renewed as long as the block runs."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(LEASE_SECONDS / 3):
            with suppress(Unavailable):  # the fence refuses what comes of a lost lease
                acquire(store, holder, name)

    with holding(store, holder, name) as fence:
        renewing = threading.Thread(target=renew, name="lease", daemon=True)
        renewing.start()
        try:
            yield fence
        finally:
            done.set()
            renewing.join()
