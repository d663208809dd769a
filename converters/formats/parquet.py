"""The chat rows as Parquet. The same rows give the same bytes with the same pyarrow."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from converters.formats.format import Example, Format, Row
from store.errors import Misconfigured


def write(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """One table, its types fixed so that both splits have the same. Raises Misconfigured."""
    try:
        arrow = importlib.import_module("pyarrow")  # not for everyone: tens of megabytes
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise Misconfigured(
            "The format parquet needs pyarrow, which is not installed.",
            hint="`pip install pyarrow` where Bhavana is installed, or take another format.",
        ) from error
    text = arrow.string()
    turns = arrow.list_(arrow.struct([("role", text), ("content", text)]))
    types = {name: turns if name == "messages" else text for name in Row.__annotations__}
    sink = arrow.BufferOutputStream()
    table = arrow.Table.from_pylist(list(rows), schema=arrow.schema(list(types.items())))
    parquet.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


FORMAT: Format[Example] = Format(
    about="the chat rows as Parquet; needs pyarrow",
    suffix=".parquet",
    row=lambda example: example.row,
    write=write,
)
