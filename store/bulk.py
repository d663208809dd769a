"""Many rows in few statements.

SQLite gives Python's interpreter lock back and takes it again at every row of an executemany,
while another thread reads requests; a statement of many rows does so once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, insert

SIZES = (64, 8, 1)
"""Rows of a statement: few sizes, so that each is prepared once."""


def add(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows, each with every column of the table, or null where it says nothing."""
    if connection.dialect.name != "sqlite":
        connection.execute(ADD(table), rows)
        return
    names = table.columns.keys()
    values = [tuple(map(row.get, names)) for row in rows]
    start = 0
    for size in SIZES:
        statement = _statement(table, size)
        while len(values) - start >= size:
            parameters = tuple(chain.from_iterable(values[start : start + size]))
            connection.exec_driver_sql(statement, parameters)
            start += size


ADD = lru_cache(None)(insert)


@lru_cache(None)
def _statement(table: Table, size: int) -> str:
    names = table.columns.keys()
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join([row] * size)}"  # noqa: S608  # our own names
