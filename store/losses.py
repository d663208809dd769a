"""What the log once held and holds no more: find it, refuse to learn without it, accept it.

Positions are given one after the other, so one that is missing was acknowledged and is gone.
After a log was found shorter than its high-water mark, new events come after the mark: the gap
stays as evidence until a person accepts the loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from store import log, tables
from store.engine import snapshot
from store.errors import Halted
from store.events import Store, StoreReader
from store.log import Fact
from store.records import Loss, new_id, now

ACCEPT = "Restore a backup that has them, or run `bhavana store accept-loss`."


class Gap(NamedTuple):
    """Positions, from first to last, without an event."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    @property
    def size(self) -> int:
        """How many positions."""
        return self.last - self.first + 1


def missing(store: StoreReader) -> list[Gap]:
    """The gaps that nobody accepted, in order. Counts, and searches only when the count is wrong.

    Raises IntegrityError for an unreadable mark.
    """
    mark = store.mark()  # before the snapshot: a commit meanwhile may raise it
    with snapshot(store.reading) as connection:
        return _missing(connection, mark)


def require_whole(store: StoreReader) -> None:
    """Raises Halted when acknowledged events are gone: what is left may be a slanted choice."""
    gaps = missing(store)
    if gaps:
        raise Halted(
            f"{sum(gap.size for gap in gaps)} acknowledged events are gone from the log, "
            f"positions {listed(gaps)}.",
            hint=f"Look with `bhavana store verify`. {ACCEPT}",
        )


def accept(store: Store, *, reason: str, actor: str) -> list[Gap]:
    """Records that the missing events are gone for good; what was accepted, in order."""
    gaps = missing(store)
    moment = now()
    facts = [
        Fact(
            type="loss.accepted",
            stream="losses",
            key=f"loss/{gap.first}-{gap.last}",
            noun=Loss(
                id=new_id("loss"),
                first=gap.first,
                last=gap.last,
                reason=reason,
                accepted_at=moment,
            ),
        )
        for gap in gaps
    ]
    store.append(facts, actor=actor)
    return gaps


def accepted(connection: Connection) -> list[Gap]:
    """The losses that were accepted."""
    table = tables.losses.c
    query = select(table.first, table.last).order_by(table.first, table.last)
    return [Gap(*row) for row in connection.execute(query)]


def without(gap: Gap, losses: Iterable[Gap]) -> list[Gap]:
    """What is left of a gap when the losses, in order, are taken out of it."""
    left = []
    first = gap.first
    for loss in losses:
        if loss.last >= first and loss.first <= gap.last:
            if loss.first > first:
                left.append(Gap(first, loss.first - 1))
            first = loss.last + 1
    if first <= gap.last:
        left.append(Gap(first, gap.last))
    return left


def listed(gaps: Iterable[Gap]) -> str:
    """The gaps in words."""
    return ", ".join(map(str, gaps))


def _missing(connection: Connection, mark: int) -> list[Gap]:
    at = tables.events.c.position
    newest = connection.execute(select(func.max(at))).scalar() or 0
    end = max(newest, log.head_of(connection).position, mark)
    count = connection.execute(select(func.count()).select_from(tables.events)).scalar_one()
    losses = accepted(connection)
    expected = sum(part.size for part in without(Gap(1, end), losses)) if end else 0
    if count == expected:
        return []
    before = func.lag(at, 1, 0).over(order_by=at).label("before")
    pairs = select(at, before).subquery()
    jumps = (
        select(pairs.c.before + 1, pairs.c.position - 1)
        .where(pairs.c.position - pairs.c.before > 1)
        .order_by(pairs.c.position)
    )
    gaps = [Gap(*row) for row in connection.execute(jumps)]
    if newest < end:
        gaps.append(Gap(newest + 1, end))
    return [part for gap in gaps for part in without(gap, losses)]
