"""How many experiences there are of each kind, for whoever looks after them."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, case, func, select

from store import tags
from store.engine import in_our_words
from store.events import StoreReader
from store.experiences import count_by_label, count_by_source, tally
from store.records import Category, Difficulty, Label, Noun
from store.tables import assessments, experiences, reviews


class Counts(Noun, frozen=True, kw_only=True):
    """What there is, and what panel and people say of it."""

    sources: dict[str, int]
    labels: dict[str, int]
    """By the panel asked for; "abstained" where it gives none."""
    feedback: dict[str, int]
    """By kind."""
    decisions: dict[str, int]
    """Experiences by what a person last decided."""
    tags: dict[str, int]


class Cell(Noun, frozen=True, kw_only=True):
    """Experiences of one category and difficulty; None where the frontend named none."""

    category: Category | None
    difficulty: Difficulty | None
    experiences: int
    excellent: int
    good: int
    """By the panel asked for."""


def counts(store: StoreReader, panel: str) -> Counts:
    """Counts what is tallied anyway, and the newest decisions and tags. Raises Unavailable."""
    newest = select(func.max(reviews.c.position)).group_by(reviews.c.experience_id)
    query = select(reviews.c.decision, func.count()).where(reviews.c.position.in_(newest))
    with in_our_words(), store.reading.connect() as connection:
        rows = connection.execute(query.group_by(reviews.c.decision)).all()
    labels = count_by_label(store, panel)
    return Counts(
        sources=count_by_source(store),
        labels={"abstained" if k is None else k.value: n for k, n in labels.items()},
        feedback=tally(store, "feedback"),
        decisions=dict(sorted(map(tuple, rows))),
        tags=tags.count(store),
    )


def by_category(store: StoreReader, panel: str) -> list[Cell]:
    """A cell for each category and difficulty that occurs. Raises Unavailable."""
    of = (experiences.c.category, experiences.c.difficulty)
    judged = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
    query = (
        select(*of, func.count(), *(_labelled(label) for label in (Label.EXCELLENT, Label.GOOD)))
        .select_from(experiences)
        .outerjoin(assessments, judged)
        .group_by(*of)
    )
    with in_our_words(), store.reading.connect() as connection:
        rows = connection.execute(query).all()
    cells = [
        Cell(category=row[0], difficulty=row[1], experiences=row[2], excellent=row[3], good=row[4])
        for row in rows
    ]
    return sorted(cells, key=_words)


def _labelled(label: Label) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((assessments.c.label == label, 1), else_=0)), 0)


def _words(cell: Cell) -> tuple[str, str]:
    """In the order of the alphabet, what has no name last."""
    return cell.category or "~", cell.difficulty or "~"
