"""How much there is: events by kind, rows by table, and what it takes on the disk."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from store import tables
from store.engine import snapshot
from store.events import StoreReader
from store.log import ERASED_STREAM
from store.records import Noun


class Stats(Noun, frozen=True, kw_only=True):
    """What a store holds, counted in one snapshot."""

    events: dict[str, int]
    """By type."""
    erased: int
    """Those of them whose words are gone."""
    oldest: datetime | None
    newest: datetime | None
    """When the first and the last event were recorded; None for an empty log."""
    rows: dict[str, int]
    """By table."""
    bytes: dict[str, int]
    """On the disk: the database, SQLite's write-ahead log, the high-water mark."""


def stats(store: StoreReader) -> Stats:
    """Counts everything; reads the whole log. Raises Unavailable."""
    events = tables.events.c
    with snapshot(store.reading) as connection:
        by_type = select(events.type, func.count()).group_by(events.type).order_by(events.type)
        erased = select(func.count()).where(events.stream == ERASED_STREAM)
        return Stats(
            events={row[0]: row[1] for row in connection.execute(by_type)},
            erased=connection.execute(erased).scalar_one(),
            oldest=recorded(connection, newest=False),
            newest=recorded(connection, newest=True),
            rows={
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in tables.metadata.sorted_tables
            },
            bytes=_bytes(store, connection),
        )


def recorded(connection: Connection, *, newest: bool) -> datetime | None:
    """When the first or the last event was recorded; None for an empty log."""
    events = tables.events.c
    order = events.position.desc() if newest else events.position
    text = connection.execute(select(events.recorded_at).order_by(order).limit(1)).scalar()
    return None if text is None else datetime.fromisoformat(text)


def _bytes(store: StoreReader, connection: Connection) -> dict[str, int]:
    files = {
        "database": store.database,
        "write_ahead_log": store.wal,
        "high_water": store.high_water and store.high_water.path,
    }
    sizes = {name: path.stat().st_size for name, path in files.items() if path and path.exists()}
    if store.database is None:
        size = select(func.pg_database_size(func.current_database()))
        sizes["database"] = connection.execute(size).scalar_one()
    return sizes
