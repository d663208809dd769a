"""The event store: append, follow, rebuild. An event and its projections are written at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, Row, Select, Table, delete, select

from store import tables
from store.engine import in_our_words, migrate, open_engine, require_newest, snapshot, wal_of
from store.errors import Conflict
from store.high_water import HighWater
from store.log import ERASED, Appended, Fact, Guard, Line, head_of, line
from store.projections import KINDS, Projected, digest, project
from store.records import Event
from store.writer import Outcome, Writer

FOLLOW_BATCH = 500
T = TypeVar("T")


class StoreReader:
    """The event store to read: takes no lock, migrates nothing, and cannot write.

    For looking at a store, a damaged one, too, while its daemon runs or before it starts.
    """

    def __init__(self, url: str, *, high_water: Path | None = None) -> None:
        """Opens the store. Raises Misconfigured, for a schema of another revision, too.

        `high_water`: the file of the mark; beside an SQLite file by default, else none is kept.
        """
        self._read = open_engine(url, writes=False)
        with _disposed_on_error(self._read):
            require_newest(self._read)
        parsed = self._read.url
        self.url = parsed.render_as_string(hide_password=True)
        self.database = Path(str(parsed.database)) if self._read.dialect.name == "sqlite" else None
        """SQLite's file; None for PostgreSQL."""
        if high_water is None and self.database is not None:
            high_water = self.database.with_name(f"{self.database.name}.high-water")
        self.high_water = None if high_water is None else HighWater(high_water)

    def close(self) -> None:
        """Closes the connections. Safe to repeat."""
        self._read.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def reading(self) -> Engine:
        """For the queries by noun; cannot write."""
        return self._read

    @property
    def wal(self) -> Path | None:
        """SQLite's write-ahead log; None for PostgreSQL."""
        return self.database and wal_of(self.database)

    def mark(self) -> int:
        """The high-water mark; 0 where none is kept. Raises IntegrityError."""
        return 0 if self.high_water is None else self.high_water.read()

    def position(self) -> int:
        """Position of the last event; 0 when the log is empty."""
        with in_our_words(), self._read.connect() as connection:
            return head_of(connection).position

    def follow(self, after: int = 0, *, types: Sequence[str] | None = None) -> Iterator[Event]:
        """Events after a position, in order, up to the present end of the log."""
        query = select(tables.events).order_by(tables.events.c.position).limit(FOLLOW_BATCH)
        if types is not None:
            query = query.where(tables.events.c.type.in_(types))
        while True:
            with in_our_words(), self._read.connect() as connection:
                rows = connection.execute(query.where(tables.events.c.position > after)).all()
            if not rows:
                return
            yield from map(_event, rows)
            after = rows[-1].position

    def projections_digest(self) -> dict[str, str]:
        """A digest of every projection's rows, to compare with another time or another store."""
        with snapshot(self._read) as connection:
            return {table.name: digest(connection, table) for table in tables.PROJECTIONS}


class Store(StoreReader):
    """The event store. Safe to share between threads: one thread of its own writes.

    Returns only after commit: on SQLite with synchronous=FULL, what was returned is on disk.
    """

    def __init__(self, url: str, *, high_water: Path | None = None, migrates: bool = True) -> None:
        """Opens the store. Raises Misconfigured, Unavailable, IntegrityError.

        `migrates`: brings an older schema to the newest revision; else it is refused.
        """
        self._write = open_engine(url, writes=True)
        with _disposed_on_error(self._write):
            if migrates:
                migrate(self._write, after=_rebuild)
            super().__init__(url, high_water=high_water)
            after = self.mark()
        self.writer = Writer(self._write, self.high_water, after=after, database=self.database)

    def close(self) -> None:
        """Commits what waits and closes the connections. Safe to repeat."""
        self.writer.close()
        self._write.dispose()
        super().close()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Runs writes of operational state in one transaction; facts go through `append`."""
        return self.writer.run(work)

    def append(
        self,
        facts: Sequence[Fact],
        *,
        actor: str = "bhavana",
        fence: Guard | None = None,
    ) -> list[Appended]:
        """Records the facts in one transaction; safe to repeat.

        A fact whose key is there with the same content is a duplicate; with other content it
        is a conflict and is not recorded, while the others are. `fence` is asked first, in the
        same transaction, and what it raises is raised.
        """
        lines = [line(fact, actor) for fact in facts]
        if fence is None:
            return self.writer.append_and_wait(lines)

        def work(connection: Connection) -> list[Appended]:
            fence(connection)
            return self.writer.append_within(connection, lines)

        return self.write(work)

    def append_soon(self, lines: Sequence[Line], done: Callable[[Outcome], None]) -> None:
        """Queues lines; `done` hears the outcome, in the writer's thread. Raises QueueFull."""
        self.writer.append(lines, done)

    def append_one(
        self,
        fact: Fact,
        *,
        actor: str = "bhavana",
        fence: Guard | None = None,
    ) -> Appended:
        """Records one fact; raises Conflict when its key holds other content, or was erased."""
        [appended] = self.append([fact], actor=actor, fence=fence)
        return taken(fact, appended)

    def scrub(self) -> bool:
        """Takes what was deleted out of SQLite's pages and its write-ahead log; True when done.

        The writer waits meanwhile. False where a reader needs the log, another process wrote
        meanwhile or there is no room: what was deleted is gone for every query, and some of its
        bytes may be left.
        """
        return self.writer.scrub()

    def rebuild(self) -> int:
        """Drops the projections' rows and replays the log; returns the number of events."""
        return self.write(_rebuild)


@contextmanager
def _disposed_on_error(engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def taken(fact: Fact, appended: Appended) -> Appended:
    """What became of a fact that the caller needs recorded. Raises Conflict when it is not."""
    if appended.status == "erased":
        raise Conflict(f"{fact.key} belongs to what was erased on a person's wish.")
    if appended.status == "conflict":
        raise Conflict(f"{fact.key} was recorded before with other content.")
    return appended


def body_under(store: StoreReader, key: str) -> bytes | None:
    """The body of the event with this key; None where there is none, or it was erased."""
    query = select(tables.events.c.body).where(tables.events.c.key == key)
    with in_our_words(), store.reading.connect() as connection:
        body: bytes | None = connection.execute(query).scalar()
    return body


def bodies(table: Table) -> Select[bytes]:
    """The bodies of a projection's rows, to be narrowed and ordered."""
    events = tables.events
    return select(events.c.body).select_from(
        table.join(events, events.c.position == table.c.position)
    )


def _rebuild(connection: Connection) -> int:
    for table in tables.PROJECTIONS:
        connection.execute(delete(table))
    replayed, after = 0, 0
    query = select(tables.events).order_by(tables.events.c.position).limit(FOLLOW_BATCH)
    while rows := connection.execute(query.where(tables.events.c.position > after)).all():
        events = [_event(row) for row in rows]
        project(connection, [_projected(e) for e in events if e.body != ERASED])
        replayed += len(rows)
        after = rows[-1].position
    return replayed


def _projected(event: Event) -> Projected:
    noun = msgspec.json.decode(event.body, type=KINDS[event.type].noun)
    return Projected(event.type, noun, event.position)


def _event(row: Row[Any]) -> Event:
    return Event(
        position=row.position,
        stream=row.stream,
        type=row.type,
        version=row.version,
        key=row.key,
        body=bytes(row.body),
        recorded_at=datetime.fromisoformat(row.recorded_at),
        actor=row.actor,
    )
