"""The contract of a benchmark: where the hub has it, and how its rows become samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from trainer.gates.gate import Gate
from trainer.gates.sample import Sample

Row = Mapping[str, Any]


class Benchmark(NamedTuple):
    """One public benchmark."""

    gate: Gate
    """Its task's suite is filled in with the file that `prepare` wrote."""
    sample: Callable[[Row], Sample | None]
    """The sample of a row, as the makers or the hub have it; None where it cannot be asked here.
    Raises KeyError, TypeError, ValueError or SyntaxError for a row of another form."""
    file: str
    """In the hub's repository: the Parquet file of the test split."""


def told(row: Row, *names: str) -> Any:
    """What the row holds under the first of these names that it has, or under `extra`.

    Raises KeyError.
    """
    extra = row.get("extra") or {}
    for name in names:
        for where in (row, extra):
            if where.get(name) is not None:
                return where[name]
    raise KeyError(names[0])
