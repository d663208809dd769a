"""What was kept for as long as it may be: find it by age and consent, and erase it.

Only what people said: the house's own sources do not age.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, func, or_, select

from store import tables
from store.engine import in_our_words
from store.events import Store
from store.log import head_of
from store.privacy import batches, erase_found, with_what_is_on
from store.records import Erasure
from store.sources import OURS


class Aged(NamedTuple):
    """An experience that was kept for as long as its class is."""

    position: int
    id: str


def aged(store: Store, *, before: datetime, consented: bool) -> list[Aged]:
    """Experiences recorded before a moment whose consent, as it stands, is this; in order."""
    with in_our_words(), store.reading.connect() as connection:
        query = _aged(before, consented)
        return [Aged(*row) for row in connection.execute(query)]


def erase_aged(
    store: Store,
    some: Sequence[Aged],
    *,
    before: datetime,
    consented: bool,
    reason: str,
    actor: str,
) -> list[Erasure]:
    """Erases aged experiences, and what was said about them, in transactions of BATCH.

    One whose consent changed since it was found stays. Feedback on a conversation goes with
    the conversation's last experience; feedback on what never came, with what has no consent.
    Safe to repeat.
    """
    erasures: list[Erasure | None] = []
    name = "consented" if consented else "unconsented"
    for positions in batches(one.position for one in some):

        def work(connection: Connection, among: list[int] = positions) -> Erasure | None:
            head_of(connection, lock=True)  # nobody records anything between finding and erasing
            query = _aged(before, consented).where(tables.experiences.c.position.in_(among))
            still = [Aged(*row) for row in connection.execute(query)]
            found = with_what_is_on(connection, still, set(), set())
            return erase_found(store, connection, found, ("age", name), reason=reason, actor=actor)

        erasures.append(store.write(work))

    def orphans(connection: Connection) -> Erasure | None:
        head_of(connection, lock=True)
        found = with_what_is_on(connection, (), _waiting(connection, before), set())
        return erase_found(store, connection, found, ("age", name), reason=reason, actor=actor)

    if not consented:
        erasures.append(store.write(orphans))
    return [erasure for erasure in erasures if erasure is not None]


def _aged(before: datetime, consented: bool) -> Select[Any]:
    events, experiences, consents = tables.events.c, tables.experiences.c, tables.consents.c
    scopes = (
        ("experience", experiences.id),
        ("conversation", experiences.conversation),
        ("subject", experiences.subject),
    )
    covers = [and_(consents.scope == scope, consents.scope_id == name) for scope, name in scopes]
    newest = (
        select(consents.training)
        .where(or_(*covers))
        .order_by(consents.position.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(experiences.position, experiences.id)
        .join(tables.events, events.position == experiences.position)
        .where(
            experiences.source.not_in(OURS),
            events.recorded_at < before.isoformat(timespec="microseconds"),
            func.coalesce(newest, experiences.consented).is_(consented),
        )
        .order_by(experiences.position)
    )


def _waiting(connection: Connection, before: datetime) -> set[int]:
    """Feedback recorded before a moment, on an experience or a conversation that never came."""
    events, feedback, experiences = tables.events.c, tables.feedback.c, tables.experiences.c
    its = tables.events.alias().c
    on_one = select(its.position).where(its.key == "experience/" + feedback.experience_id)
    on_all = select(experiences.position).where(experiences.conversation == feedback.conversation)
    query = (
        select(feedback.position)
        .join(tables.events, events.position == feedback.position)
        .where(
            events.recorded_at < before.isoformat(timespec="microseconds"),
            ~on_one.exists(),
            ~on_all.exists(),
        )
    )
    return set(connection.execute(query).scalars())
