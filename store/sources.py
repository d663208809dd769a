"""Verbs on sources: where experiences come from, and how far each is trusted."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import func, select

from store.engine import in_our_words
from store.events import Store, StoreReader, bodies
from store.log import Fact
from store.records import CONSTITUTION, CURATED, PRACTICE, Source, Tier, new_id, now
from store.tables import events, experiences, sources

OURS = (CURATED, CONSTITUTION, PRACTICE)
"""Only an operator's key may name these; they need no trial."""
TRIAL = timedelta(days=7)
"""How long a new source stays in quarantine unless somebody decides sooner."""


def begin(store: Store, name: str, *, actor: str) -> Source:
    """The source of this name; a new one begins in quarantine. Safe to repeat."""
    known = {source.name: source for source in listed(store)}
    if name in known:
        return known[name]
    return change(store, name, "quarantined", actor=actor, until=now() + TRIAL)


def change(
    store: Store, name: str, tier: Tier, *, actor: str, until: datetime | None = None
) -> Source:
    """Sets how far a source is trusted, from the next selection on."""
    source = Source(name=name, tier=tier, changed_at=now(), quarantined_until=until)
    store.append_one(
        Fact(
            type="source.changed",
            stream=f"source/{name}",
            key=new_id(f"source/{name}"),
            noun=source,
        ),
        actor=actor,
    )
    return source


def listed(store: StoreReader, *, as_of: int | None = None) -> list[Source]:
    """Every source that has a tier, by name."""
    with in_our_words(), store.reading.connect() as connection:
        found = connection.execute(bodies(sources).order_by(sources.c.name)).scalars().all()
        newest = connection.execute(select(func.max(sources.c.position))).scalar() or 0
    if as_of is not None and newest > as_of:  # the table no longer says what was known then
        return _as_of(store, as_of)
    return [msgspec.json.decode(body, type=Source) for body in found]


def _as_of(store: StoreReader, position: int) -> list[Source]:
    newest: dict[str, Source] = {}
    for event in store.follow(types=["source.changed"]):
        if event.position > position:
            break
        source = msgspec.json.decode(event.body, type=Source)
        newest[source.name] = source
    return [newest[name] for name in sorted(newest)]


def covered(
    store: StoreReader, scope: Literal["experience", "conversation", "subject"], name: str
) -> set[str]:
    """The sources that recorded what an experience's, a conversation's or a person's id covers."""
    of = {"conversation": experiences.c.conversation, "subject": experiences.c.subject}
    query = select(experiences.c.source).distinct()
    if scope == "experience":
        query = query.join(events, events.c.position == experiences.c.position)
        query = query.where(events.c.key == f"experience/{name}")
    else:
        query = query.where(of[scope] == name)
    with in_our_words(), store.reading.connect() as connection:
        return set(connection.execute(query).scalars())


def tiers(store: StoreReader, *, as_of: int, moment: datetime) -> dict[str, Tier]:
    """The tier of each source, as known at a position and standing at a moment.

    A source that nobody ever gave a tier is untrusted; the house's own are trusted.
    """
    found: defaultdict[str, Tier] = defaultdict(lambda: "untrusted")
    found |= dict.fromkeys(OURS, "trusted")
    for source in listed(store, as_of=as_of):
        found[source.name] = standing(source, moment)
    return found


def trusted(store: StoreReader, *, as_of: int, moment: datetime) -> frozenset[str]:
    """The sources that are, as known at a position and standing at a moment."""
    known = tiers(store, as_of=as_of, moment=moment)
    return frozenset(name for name, tier in known.items() if tier == "trusted")


def standing(source: Source, moment: datetime) -> Tier:
    """The tier that counts at a moment: a quarantine that is over leaves it untrusted."""
    until = source.quarantined_until
    over = source.tier == "quarantined" and until is not None and until <= moment
    return "untrusted" if over else source.tier
