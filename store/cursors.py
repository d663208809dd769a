"""Up to where in the log somebody has read who acts on what stands there.

Operational state, not facts: who was killed between an act and its cursor acts again.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from store.engine import in_our_words
from store.events import Store, StoreReader
from store.tables import cursors


def at(store: StoreReader, name: str) -> int | None:
    """The position of the last event that was acted on; None before the first look."""
    query = select(cursors.c.position).where(cursors.c.name == name)
    with in_our_words(), store.reading.connect() as connection:
        position: int | None = connection.execute(query).scalar()
    return position


def advance(store: Store, name: str, position: int) -> None:
    """Notes that all up to this position was acted on; never goes back."""

    def write(connection: Connection) -> None:
        moved = connection.execute(
            update(cursors)
            .where(cursors.c.name == name, cursors.c.position < position)
            .values(position=position)
        )
        known = select(cursors.c.name).where(cursors.c.name == name)
        if not moved.rowcount and connection.execute(known).first() is None:
            connection.execute(insert(cursors).values(name=name, position=position))

    store.write(write)
