"""The log: append, follow, rebuild. An event and its projections are written at once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, Self

import msgspec
from sqlalchemy import Connection, Engine, Row, delete, func, insert, select

from store import tables
from store.engine import in_our_words, migrate, open_engine
from store.errors import Conflict
from store.projections import project
from store.records import Event, Noun, now, to_json

FOLLOW_BATCH = 500


class Fact(Noun, frozen=True, kw_only=True):
    """Something to be recorded. `key` is its identity: the same key is the same fact."""

    type: str
    stream: str
    key: str
    noun: Noun


class Appended(Noun, frozen=True, kw_only=True):
    """What became of a fact: recorded now, or already there with the same content, or not."""

    position: int
    status: Literal["recorded", "duplicate", "conflict"]


class Store:
    """The event store. Safe to share between threads; writes queue behind one lock.

    Returns only after commit: on SQLite with synchronous=FULL, what was returned is on disk.
    """

    def __init__(self, url: str) -> None:
        """Opens and, where needed, migrates the store. Raises Misconfigured, Unavailable."""
        self._write = open_engine(url, writes=True)
        self.url = self._write.url.render_as_string(hide_password=True)
        with in_our_words():
            migrate(self._write)
        self._read = open_engine(url, writes=False)
        self._writing = threading.Lock()

    def close(self) -> None:
        """Closes the connections."""
        self._read.dispose()
        self._write.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def reading(self) -> Engine:
        """For the queries by noun; cannot write."""
        return self._read

    @property
    def writing(self) -> Engine:
        """For operational state only (schedule, lease); facts go through `append`."""
        return self._write

    def append(self, facts: Sequence[Fact], *, actor: str = "bhavana") -> list[Appended]:
        """Records the facts in one transaction; safe to repeat.

        A fact whose key is there with the same content is a duplicate; with other content it
        is a conflict and is not recorded, while the others are.
        """
        with self._writing, in_our_words(), self._write.begin() as connection:
            return [_append_one(connection, fact, actor) for fact in facts]

    def append_one(self, fact: Fact, *, actor: str = "bhavana") -> Appended:
        """Records one fact; raises Conflict when its key holds other content."""
        [appended] = self.append([fact], actor=actor)
        if appended.status == "conflict":
            raise Conflict(f"{fact.key} was recorded before with other content.")
        return appended

    def position(self) -> int:
        """Position of the last event; 0 when the log is empty."""
        with in_our_words(), self._read.connect() as connection:
            return connection.execute(select(func.max(tables.events.c.position))).scalar() or 0

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

    def rebuild(self) -> int:
        """Drops the projections' rows and replays the log; returns the number of events."""
        with self._writing, in_our_words(), self._write.begin() as connection:
            for table in tables.PROJECTIONS:
                connection.execute(delete(table))
            replayed = 0
            rows = connection.execute(select(tables.events).order_by(tables.events.c.position))
            for row in rows.yield_per(FOLLOW_BATCH):
                project(connection, _event(row))
                replayed += 1
        return replayed

    def projections_digest(self) -> dict[str, str]:
        """SHA-256 of every projection's rows, to compare before and after a rebuild."""
        digests = {}
        with in_our_words(), self._read.connect() as connection:
            for table in tables.PROJECTIONS:
                sha = hashlib.sha256()
                ordered = select(table).order_by(*table.primary_key.columns)
                for row in connection.execute(ordered).yield_per(FOLLOW_BATCH):
                    sha.update(repr(tuple(row)).encode())
                digests[table.name] = sha.hexdigest()
        return digests


def _append_one(connection: Connection, fact: Fact, actor: str) -> Appended:
    body = to_json(fact.noun)
    digest = hashlib.sha256(body).hexdigest()
    known = connection.execute(
        select(tables.events.c.position, tables.events.c.digest).where(
            tables.events.c.key == fact.key
        )
    ).first()
    if known is not None:
        same = known.digest == digest
        return Appended(position=known.position, status="duplicate" if same else "conflict")
    event = Event(
        position=0,  # given by the database
        stream=fact.stream,
        type=fact.type,
        version=1,
        key=fact.key,
        body=body,
        recorded_at=now(),
        actor=actor,
    )
    row = msgspec.structs.asdict(event) | {
        "recorded_at": event.recorded_at.isoformat(timespec="microseconds"),
        "digest": digest,
    }
    del row["position"]
    inserted = insert(tables.events).values(row).returning(tables.events.c.position)
    position: int = connection.execute(inserted).scalar_one()
    project(connection, msgspec.structs.replace(event, position=position))
    return Appended(position=position, status="recorded")


def _event(row: Row[Any]) -> Event:
    return Event(
        position=row.position,
        stream=row.stream,
        type=row.type,
        version=row.version,
        key=row.key,
        body=row.body,
        recorded_at=datetime.fromisoformat(row.recorded_at),
        actor=row.actor,
    )
