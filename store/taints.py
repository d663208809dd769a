"""Verbs on taints: marks on releases that learned from what is gone, or from poison.

A mark is made once for each cause and stays: what an adapter learned cannot be taken out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import select

from store import keys, tables
from store.engine import in_our_words
from store.events import Store, StoreReader, bodies
from store.log import Appended, Fact
from store.records import Poison, Taint

TAUGHT = ("experience.recorded", "feedback.given")
"""Events that a model may have learned from."""


def tainted(t: Taint) -> Fact:
    """The fact that a release is tainted."""
    stream = f"release/{t.release}"
    return Fact(type="release.tainted", stream=stream, key=f"{stream}/tainted/{t.of}", noun=t)


def poisoned(p: Poison) -> Fact:
    """The fact that a person found poison."""
    return Fact(type="poison.found", stream=f"poison/{p.id}", key=f"poison/{p.id}", noun=p)


def tell_poison(store: Store, poison: Poison, *, actor: str) -> Appended:
    """Records that a source, or what came with a key, is poison; safe to repeat."""
    return store.append_one(poisoned(poison), actor=actor)


def mark(store: Store, taints: Iterable[Taint]) -> tuple[Taint, ...]:
    """Marks releases; those that were not marked for this cause yet."""
    listed = list(taints)
    done = store.append([tainted(taint) for taint in listed]) if listed else []
    return tuple(taint for taint, one in zip(listed, done, strict=True) if one.status == "recorded")


def every(store: StoreReader) -> Mapping[str, tuple[Taint, ...]]:
    """The taints of each tainted release, by its id, the oldest first."""
    found: dict[str, tuple[Taint, ...]] = {}
    query = bodies(tables.taints).order_by(tables.taints.c.position)
    with in_our_words(), store.reading.connect() as connection:
        for body in connection.execute(query).scalars():
            taint = msgspec.json.decode(body, type=Taint)
            found[taint.release] = (*found.get(taint.release, ()), taint)
    return found


def of_poison(store: StoreReader, poison: Poison) -> list[int]:
    """Positions of all that came from the source, or with the key."""
    events, experiences = tables.events.c, tables.experiences.c
    is_source = poison.scope == "source"
    with_keys = [
        f"key:{key.id}"
        for key in keys.listed(store)
        if (key.source if is_source else key.id) == poison.name
    ]
    found = set()
    with in_our_words(), store.reading.connect() as connection:
        sent = select(events.position).where(events.actor.in_(with_keys), events.type.in_(TAUGHT))
        found |= set(connection.execute(sent).scalars())
        if is_source:
            said = select(experiences.position).where(experiences.source == poison.name)
            found |= set(connection.execute(said).scalars())
    return sorted(found)
