"""What a store holds, read without any of the product's code but the shape of its log."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Select, create_engine, func, select

from store.tables import events, metadata
from tests.durability.load import Load

PREFIX = "experience/"
PASSING = {"claims", "key_uses", "leases", "schedules"}
"""Tables of what goes on at the moment: nobody promises what is in them."""
RECORDED = events.c.type == "experience.recorded"


def recorded(url: str) -> dict[str, int]:
    """Id of every experience in the log -> how often it is there."""
    query = select(events.c.key, func.count()).where(RECORDED).group_by(events.c.key)
    return {key.removeprefix(PREFIX): count for key, count in _rows(url, query)}


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every lasting table, in order."""
    lasting = [table for table in metadata.sorted_tables if table.name not in PASSING]
    return {
        table.name: [tuple(row) for row in _rows(url, select(table).order_by(*table.primary_key))]
        for table in lasting
    }


def _rows(url: str, query: Select[Any]) -> Sequence[Any]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return connection.execute(query).all()
    finally:
        engine.dispose()


def integrity(path: Path) -> str:
    """What SQLite's own check says of a file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


def assert_kept(load: Load, url: str) -> None:
    """Nothing acknowledged is lost, nothing is there twice, nothing was made up."""
    found = recorded(url)
    lost = load.acknowledged.keys() - found.keys()
    assert not lost, f"lost {len(lost)} of {len(load.acknowledged)}, such as {sorted(lost)[:3]}"
    assert [name for name, count in found.items() if count != 1] == []
    assert found.keys() <= load.sent
    assert not load.wrong
