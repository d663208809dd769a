"""Verbs on experiences: record, give feedback, assess, and what is eligible for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy import func, select

from store.engine import in_our_words
from store.errors import NotFound
from store.events import Appended, Fact, Store
from store.records import Assessment, Experience, Feedback, Label, Noun
from store.tables import assessments, experiences, feedback

BATCH = 500


class Assessed(Noun, frozen=True, kw_only=True):
    """An experience with what the panel in force said of it."""

    experience: Experience
    assessment: Assessment


def record(store: Store, items: Sequence[Experience], *, actor: str = "bhavana") -> list[Appended]:
    """Records experiences in one transaction, one result each; safe to repeat."""
    facts = [
        Fact(
            type="experience.recorded",
            stream=f"experience/{e.id}",
            key=f"experience/{e.id}",
            noun=e,
        )
        for e in items
    ]
    return store.append(facts, actor=actor)


def give_feedback(store: Store, items: Sequence[Feedback], *, actor: str) -> list[Appended]:
    """Records feedback, one result each; it may arrive before its experience does."""
    facts = [
        Fact(
            type="feedback.given",
            stream=f"experience/{f.experience_id}",
            key=f"feedback/{f.id}",
            noun=f,
        )
        for f in items
    ]
    return store.append(facts, actor=actor)


def assess(store: Store, items: Sequence[Assessment]) -> list[Appended]:
    """Records assessments: one for each experience and panel, a repeat is a duplicate."""
    facts = [
        Fact(
            type="experience.assessed",
            stream=f"experience/{a.experience_id}",
            key=f"assessment/{a.experience_id}/{a.panel}",
            noun=a,
        )
        for a in items
    ]
    return store.append(facts)


def get(store: Store, experience_id: str) -> Experience:
    """One experience; raises NotFound."""
    query = select(experiences.c.body).where(experiences.c.id == experience_id)
    with in_our_words(), store.reading.connect() as connection:
        body = connection.execute(query).scalar()
    if body is None:
        raise NotFound(f"No experience {experience_id!r} is recorded.")
    return msgspec.json.decode(body, type=Experience)


def feedback_on(store: Store, experience_id: str) -> list[Feedback]:
    """The feedback on one experience, in the order it came."""
    query = (
        select(feedback.c.body)
        .where(feedback.c.experience_id == experience_id)
        .order_by(feedback.c.position)
    )
    with in_our_words(), store.reading.connect() as connection:
        return [
            msgspec.json.decode(body, type=Feedback) for body in connection.execute(query).scalars()
        ]


def unassessed(store: Store, panel: str, *, as_of: int, limit: int = BATCH) -> list[Experience]:
    """Experiences up to a position that this panel has not assessed, oldest first."""
    done = select(assessments.c.experience_id).where(assessments.c.panel == panel)
    query = (
        select(experiences.c.body)
        .where(experiences.c.position <= as_of, experiences.c.id.not_in(done))
        .order_by(experiences.c.position)
        .limit(limit)
    )
    with in_our_words(), store.reading.connect() as connection:
        return [
            msgspec.json.decode(body, type=Experience)
            for body in connection.execute(query).scalars()
        ]


def assessed(store: Store, panel: str, *, as_of: int) -> Iterator[Assessed]:
    """Experiences up to a position with this panel's assessment, in order of recording."""
    query = (
        select(experiences.c.position, experiences.c.body, assessments.c.body.label("assessment"))
        .join(assessments, assessments.c.experience_id == experiences.c.id)
        .where(assessments.c.panel == panel)
        .order_by(experiences.c.position)
        .limit(BATCH)
    )
    after = 0
    while True:
        page = query.where(experiences.c.position > after, experiences.c.position <= as_of)
        with in_our_words(), store.reading.connect() as connection:
            rows = connection.execute(page).all()
        if not rows:
            return
        for row in rows:
            yield Assessed(
                experience=msgspec.json.decode(row.body, type=Experience),
                assessment=msgspec.json.decode(row.assessment, type=Assessment),
            )
        after = rows[-1].position


def count_by_source(store: Store) -> dict[str, int]:
    """Experiences by source."""
    query = (
        select(experiences.c.source, func.count().label("recorded"))
        .group_by(experiences.c.source)
        .order_by(experiences.c.source)
    )
    with in_our_words(), store.reading.connect() as connection:
        return {row.source: row.recorded for row in connection.execute(query)}


def count_feedback(store: Store) -> int:
    """How much feedback was given in all."""
    with in_our_words(), store.reading.connect() as connection:
        return connection.execute(select(func.count()).select_from(feedback)).scalar_one()


def count_by_label(store: Store, panel: str) -> dict[Label | None, int]:
    """Experiences by this panel's label; None counts those without one (abstained)."""
    query = (
        select(assessments.c.label, func.count())
        .where(assessments.c.panel == panel)
        .group_by(assessments.c.label)
    )
    with in_our_words(), store.reading.connect() as connection:
        return {
            None if label is None else Label(label): count
            for label, count in connection.execute(query)
        }
