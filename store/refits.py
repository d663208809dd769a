"""Verbs on refits: the tries to fit the panel's heads anew on reviews, and what serves since."""

from __future__ import annotations

import msgspec
from sqlalchemy import Select

from store import tables
from store.engine import in_our_words
from store.events import Store, StoreReader, bodies
from store.log import Appended, Fact, Guard
from store.records import Refit


def refitted(r: Refit) -> Fact:
    """The fact that a refit was tried."""
    return Fact(type="heads.refitted", stream="heads", key=f"refit/{r.id}", noun=r)


def record(store: Store, refit: Refit, fence: Guard | None = None) -> Appended:
    """Records how a refit ended; safe to repeat. Raises Conflict, Busy when the fence is void."""
    return store.append_one(refitted(refit), fence=fence)


def last(store: StoreReader) -> Refit | None:
    """The newest refit: what it names is at work; None before the first."""
    table = tables.refits
    return _one(store, bodies(table).order_by(table.c.position.desc()).limit(1))


def serving(store: StoreReader) -> Refit | None:
    """The refit whose heads are at work; None where those of the configuration are."""
    newest = last(store)
    if newest is None or not newest.serves:
        return None
    return _one(store, bodies(tables.refits).where(tables.refits.c.id == newest.serves))


def _one(store: StoreReader, query: Select[bytes]) -> Refit | None:
    with in_our_words(), store.reading.connect() as connection:
        body = connection.execute(query).scalar()
    return None if body is None else msgspec.json.decode(body, type=Refit)
