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
    the conversation's last experience. Safe to repeat.
    """
    erasures = []
    name = "consented" if consented else "unconsented"
    for positions in batches(one.position for one in some):

        def work(connection: Connection, among: list[int] = positions) -> Erasure | None:
            query = _aged(before, consented).where(tables.experiences.c.position.in_(among))
            still = [Aged(*row) for row in connection.execute(query)]
            said = _feedback_on_nothing_else(connection, [one.position for one in still])
            found = with_what_is_on(connection, still, said, set())
            return erase_found(store, connection, found, ("age", name), reason=reason, actor=actor)

        erasure = store.write(work)
        if erasure is not None:
            erasures.append(erasure)
    return erasures


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


def _feedback_on_nothing_else(connection: Connection, positions: Sequence[int]) -> set[int]:
    """Feedback on conversations of which nothing is left without these experiences."""
    experiences, feedback = tables.experiences.c, tables.feedback.c
    others = tables.experiences.alias().c
    of_them = select(experiences.conversation).where(experiences.position.in_(positions))
    kept = select(others.position).where(
        others.conversation == feedback.conversation, others.position.not_in(positions)
    )
    query = select(feedback.position).where(feedback.conversation.in_(of_them), ~kept.exists())
    return set(connection.execute(query).scalars())
