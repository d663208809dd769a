"""Verbs on canaries: the trials that releases stand with people, one at a time on a line."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from store import log, tables
from store.engine import in_our_words
from store.errors import Conflict
from store.events import Store, StoreReader, bodies
from store.log import Fact
from store.records import MAIN, Canary, CanaryState, to_json

OPEN: tuple[CanaryState, ...] = ("watching", "extended", "asked")
"""The states in which it is still to be decided."""


def changed(c: Canary) -> Fact:
    """The fact that a trial began, goes on, or ended.

    Of each change there is one, whoever notes it first.
    """
    return Fact(
        type="canary.changed",
        stream=f"release/{c.release}",
        key=f"canary/{c.id}/{c.state}-{c.extensions}",
        noun=c,
    )


def open_on(store: StoreReader, target: str, line: str = MAIN) -> Canary | None:
    """The trial that a line is in, as it stands; None where there is none."""
    return next((c for c in undecided(store) if (c.target, c.line) == (target, line)), None)


def undecided(store: StoreReader) -> list[Canary]:
    """Every trial that is still to be decided, the oldest first."""
    table = tables.canaries
    query = bodies(table).where(table.c.state.in_(OPEN)).order_by(table.c.position)
    with in_our_words(), store.reading.connect() as connection:
        found = connection.execute(query).scalars().all()
    return [msgspec.json.decode(body, type=Canary) for body in found]


def of_release(store: StoreReader, release: str) -> Canary | None:
    """The trial of this release; None where it stood none."""
    table = tables.canaries
    query = bodies(table).where(table.c.release_id == release)
    with in_our_words(), store.reading.connect() as connection:
        body = connection.execute(query).scalar()
    return None if body is None else msgspec.json.decode(body, type=Canary)


def change(store: Store, canary: Canary, *, was: Canary, actor: str = "bhavana") -> None:
    """Records how a trial goes on, without a change of who serves.

    Raises Conflict where it went on otherwise meanwhile.
    """

    def guard(connection: Connection) -> None:
        log.head_of(connection, lock=True)  # nobody changes it between this look and the record
        table = tables.canaries
        if connection.execute(bodies(table).where(table.c.id == was.id)).scalar() != to_json(was):
            raise Conflict(f"{was.id} is not {was.state} as it was: it was changed meanwhile.")

    store.append_one(changed(canary), actor=actor, fence=guard)
