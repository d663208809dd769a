"""What releases say to people, as the panel and people judge it: columns only, no words."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, func, select

from store import sources
from store.engine import in_our_words
from store.events import StoreReader
from store.records import now
from store.tables import assessments, experiences, feedback

MOST = 50_000
"""So many answers of each are looked at; who has so many knows enough."""


class Answer(NamedTuple):
    """What the panel says of one answer; None where it abstains."""

    actual_harm: float | None
    weighted: float | None
    refusal: float | None


class Live(NamedTuple):
    """What one model said to people in a stretch of the log."""

    answers: int
    """All that were recorded, judged or not."""
    judged: tuple[Answer, ...]
    """Those that this panel assessed, in the order in which it did: more only come at the end."""
    thumbs: tuple[float, ...]
    """1 for up, -1 for down, in the order in which they came."""


def live(
    store: StoreReader,
    model: str,
    panel: str,
    *,
    after: int = 0,
    until: int | None = None,
    most_per_person: int = MOST,
) -> Live:
    """What a model (a release's id, or a base's name) said to people after a position.

    Not the house's own practice, nor sources in quarantine: whoever may post can claim any
    model. Of one person's answers, or one conversation's, the first `most_per_person`: they are
    alike. With `until` the newest MOST up to a position, else the first MOST.
    """
    said = experiences.c
    quarantined = [name for name, tier in _tiers(store).items() if tier == "quarantined"]
    heard = (
        select(said.position, said.id, _nth().label("nth"))
        .where(said.model == model, said.position > after)
        .where(said.source.not_in([*sources.OURS, *quarantined]))
    )
    if until is not None:
        heard = heard.where(said.position <= until)
    each = heard.subquery("each")
    order = each.c.position if until is None else each.c.position.desc()
    some = select(each.c.id).where(each.c.nth <= most_per_person).order_by(order).limit(MOST)
    those = some.subquery("said")
    on_them = and_(assessments.c.experience_id == those.c.id, assessments.c.panel == panel)
    with in_our_words(), store.reading.connect() as connection:
        answers = connection.execute(select(func.count()).select_from(those)).scalar_one()
        judged = connection.execute(
            select(*(assessments.c[name] for name in Answer._fields))
            .select_from(those.join(assessments, on_them))
            .order_by(assessments.c.position)
        ).all()
        thumbs = connection.execute(
            select(feedback.c.value)
            .select_from(those.join(feedback, feedback.c.experience_id == those.c.id))
            .where(feedback.c.kind == "thumb")
            .order_by(feedback.c.position)
        ).scalars()
        return Live(answers, tuple(Answer(*row) for row in judged), tuple(thumbs))


def _nth() -> ColumnElement[int]:
    """Which of a person's answers it is, or of a conversation's; what comes later changes none."""
    said = experiences.c
    person = func.coalesce(said.subject, said.conversation, said.id)
    return func.row_number().over(partition_by=person, order_by=said.position)


def _tiers(store: StoreReader) -> dict[str, str]:
    return dict(sources.tiers(store, as_of=store.position(), moment=now()))
