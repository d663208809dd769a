"""Dossiers: an experience with all that was said of it. For showing one, and for taking a copy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Column, Connection, Row, Select, Table, and_, func, select

from store import tags
from store.engine import in_our_words
from store.errors import NotFound
from store.events import StoreReader
from store.experiences import ConsentChanges, consent_changes, consents_to_training
from store.records import Assessment, Experience, Feedback, Identifier, Noun, Review, Tag
from store.tables import assessments, datasets, events, experiences, feedback, members, reviews

PAGE = 200
Said = TypeVar("Said", Feedback, Review)


class Dossier(Noun, frozen=True, kw_only=True):
    """An experience with all that was said of it, and what learned from it."""

    experience: Experience
    position: int
    consented: bool
    """Consent to training as it stands: what was given at the door, or changed since."""
    assessment: Assessment | None
    """By the panel asked for; None where it has not come to this one."""
    feedback: tuple[Feedback, ...]
    """On the experience, then on all of its conversation, each in the order it came."""
    reviews: tuple[Review, ...]
    """In the order they were made: the last one counts."""
    tags: tuple[Tag, ...]
    datasets: tuple[Identifier, ...]
    """Those that hold it."""


def get(store: StoreReader, experience_id: str, *, panel: str) -> Dossier:
    """One dossier; raises NotFound, for an erased experience, too."""
    query = _with_assessment(panel).where(events.c.key == f"experience/{experience_id}")
    changed = consent_changes(store, store.position())
    with in_our_words(), store.reading.connect() as connection:
        rows = connection.execute(query).all()
        found = _dossiers(connection, rows, changed)
    if not found:
        raise NotFound(
            f"No experience {experience_id!r} is recorded.", hint="`bhavana search` finds ids."
        )
    return found[0]


def count(store: StoreReader, *, source: str | None = None, tag: str | None = None) -> int:
    """How many `walk` would give."""
    query = _narrowed(select(func.count()).select_from(experiences), source, tag)
    with in_our_words(), store.reading.connect() as connection:
        found: int = connection.execute(query).scalar_one()
    return found


def walk(
    store: StoreReader, *, panel: str, source: str | None = None, tag: str | None = None
) -> Iterator[Dossier]:
    """The dossiers of all experiences, or those of a source or tag, in the order of recording.

    A page is in memory at a time. What is recorded or erased meanwhile may be in it or not.
    """
    query = _narrowed(_with_assessment(panel), source, tag)
    query = query.order_by(experiences.c.position).limit(PAGE)
    changed = consent_changes(store, store.position())
    after, size = 0, PAGE
    while size == PAGE:
        page = query.where(experiences.c.position > after)
        with in_our_words(), store.reading.connect() as connection:
            rows = connection.execute(page).all()
            found = _dossiers(connection, rows, changed)
        yield from found
        size = len(rows)
        after = rows[-1].position if rows else after


def _with_assessment(panel: str) -> Select[Any]:
    said = events.alias("said")
    judged = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
    return (
        select(experiences.c.position, events.c.body, said.c.body.label("assessment"))
        .select_from(experiences)
        .join(events, events.c.position == experiences.c.position)
        .outerjoin(assessments, judged)
        .outerjoin(said, said.c.position == assessments.c.position)
    )


def _narrowed(query: Select[Any], source: str | None, tag: str | None) -> Select[Any]:
    if source is not None:
        query = query.where(experiences.c.source == source)
    if tag is not None:
        query = query.where(experiences.c.id.in_(tags.tagged_with(tag)))
    return query


def _dossiers(
    connection: Connection, rows: Sequence[Row[Any]], changed: ConsentChanges
) -> list[Dossier]:
    some = [msgspec.json.decode(row.body, type=Experience) for row in rows]
    ids = [e.id for e in some]
    talks = [e.conversation_id for e in some if e.conversation_id is not None]
    on_one = _listed(connection, feedback, feedback.c.experience_id, ids, Feedback)
    on_all = _listed(connection, feedback, feedback.c.conversation, talks, Feedback)
    decided = _listed(connection, reviews, reviews.c.experience_id, ids, Review)
    tagged = tags.standing(connection, ids)
    held = _datasets(connection, [row.position for row in rows])
    return [
        Dossier(
            experience=e,
            position=row.position,
            consented=consents_to_training(e, changed),
            assessment=(
                msgspec.json.decode(row.assessment, type=Assessment) if row.assessment else None
            ),
            feedback=(*on_one[e.id], *on_all[e.conversation_id]),
            reviews=tuple(decided[e.id]),
            tags=tagged.get(e.id, ()),
            datasets=tuple(held[row.position]),
        )
        for row, e in zip(rows, some, strict=True)
    ]


def _listed(
    connection: Connection, table: Table, on: Column[Any], names: Sequence[str], kind: type[Said]
) -> defaultdict[str | None, list[Said]]:
    """What was said on each of these, in order."""
    query = (
        select(on, events.c.body)
        .join(events, events.c.position == table.c.position)
        .where(on.in_(names))
        .order_by(table.c.position)
    )
    found: defaultdict[str | None, list[Said]] = defaultdict(list)
    for name, body in connection.execute(query):
        found[name].append(msgspec.json.decode(body, type=kind))
    return found


def _datasets(connection: Connection, positions: Sequence[int]) -> defaultdict[int, list[str]]:
    query = (
        select(members.c.member, datasets.c.id)
        .join(datasets, datasets.c.position == members.c.position)
        .where(members.c.member.in_(positions))
        .order_by(members.c.position)
    )
    found: defaultdict[int, list[str]] = defaultdict(list)
    for member, name in connection.execute(query):
        found[member].append(name)
    return found
