"""Many rows in few statements, in and out.

SQLite gives Python's interpreter lock back and takes it again at every row of an executemany,
while another thread reads requests; a statement of many rows does so once. PostgreSQL takes
rows as a stream of text, which is three times as fast as statements are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Table,
    bindparam,
    cast,
    func,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import JSON as JSON_TEXT

from store.engine import raw_errors

SIZES = (256, 64, 16, 4, 1)
"""Rows of a statement: few sizes, so that each is prepared once."""
STREAMED = 8
"""From so many rows on, PostgreSQL's COPY is worth its round trips."""
Row = tuple[Any, ...]


def add(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts rows: the values of every column of the table, in its order."""
    if connection.dialect.name == "sqlite":
        _add_in_groups(connection, table, rows)
    elif len(rows) < STREAMED:
        names = table.columns.keys()
        connection.execute(_INSERT(table), [dict(zip(names, row, strict=True)) for row in rows])
    else:
        _stream(connection, table, rows)


def _add_in_groups(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    start = 0
    for size in SIZES:
        statement = _statement(table, size)
        while len(rows) - start >= size:
            parameters = tuple(chain.from_iterable(rows[start : start + size]))
            connection.exec_driver_sql(statement, parameters)
            start += size


def _stream(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    cursor: Any = connection.connection.cursor()
    statement = f"COPY {table.name} ({', '.join(table.columns.keys())}) FROM STDIN"
    with raw_errors(connection, "COPY"), cursor, cursor.copy(statement) as copied:
        for row in rows:
            # Text is what COPY takes for json, and no column of ours holds other bytes.
            copied.write_row([v.decode() if isinstance(v, bytes) else v for v in row])


def among(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[bool]:
    """The column, of texts or of positions, is one of the `listed`.

    They come as one JSON list: an IN over parameters would be another statement for each number
    of them.
    """
    return _among(connection.dialect.name, column)


def listed(values: Iterable[Any]) -> str:
    """The values as `among` takes them."""
    return msgspec.json.encode(list(values)).decode()


@lru_cache(None)
def _among(dialect: str, column: ColumnElement[Any]) -> ColumnElement[bool]:
    listed: BindParameter[str] = bindparam("listed")
    if dialect == "sqlite":
        return column.in_(select(func.json_each(listed).table_valued("value").c.value))
    each = func.json_array_elements_text(cast(listed, JSON_TEXT)).table_valued("value").c.value
    return column.in_(select(cast(each, BigInteger) if column.type.python_type is int else each))


_INSERT = lru_cache(None)(insert)


@lru_cache(None)
def _statement(table: Table, size: int) -> str:
    names = table.columns.keys()
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join([row] * size)}"  # noqa: S608  # our own names
