"""A door without a store, for measuring: rows of prompt and response in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec
from msgspec import field

from scorers.assess import BATCH, Worker
from store.records import Assessment, Context, Experience, Message, Noun, Text, now

SOURCE = "measured"


class Row(Noun, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A line of the input; what else it holds is of no concern here."""

    id: str | int
    """Anything that the answer may be named by."""
    prompt: Text
    response: Text
    context: Context = field(default_factory=Context)


class Measured(NamedTuple):
    """A row and what the panel says of it."""

    id: str | int
    assessment: Assessment


def measure(
    lines: Iterable[bytes], child: Worker, on_fault: Callable[[int, str], None]
) -> Iterator[list[Measured]]:
    """Assesses rows as they come, in batches, in order.

    `on_fault` is told the number of a line that is no row, and why; the others go on. Raises
    ChildFailed.
    """
    for batch in _batches(_rows(lines, on_fault)):
        items = [_experience(row, place) for place, row in enumerate(batch)]
        yield [
            Measured(row.id, assessment)
            for row, assessment in zip(batch, child.assess(items), strict=True)
        ]


def _rows(lines: Iterable[bytes], on_fault: Callable[[int, str], None]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield msgspec.json.decode(line, type=Row)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            on_fault(number, str(error))


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _experience(row: Row, place: int) -> Experience:
    return Experience(
        id=f"row-{place}",
        occurred_at=now(),
        source=SOURCE,
        messages=(Message(role="user", content=row.prompt),),
        response=row.response,
        context=row.context,
    )
