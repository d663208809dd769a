"""How many experiences there are of each kind, for whoever looks after them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import Select, and_, func, select

from store import tags
from store.engine import in_our_words
from store.events import StoreReader
from store.experiences import count_by_label, count_by_source, tally
from store.records import Category, Difficulty, Label, Noun
from store.tables import assessments, events, experiences, reviews

PAGE = 1_000


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


class _Context(msgspec.Struct):
    category: Category | None = None
    difficulty: Difficulty | None = None


class _Said(msgspec.Struct):
    """What is read of a body: the rest is passed over."""

    context: _Context = msgspec.field(default_factory=_Context)


_READ = msgspec.json.Decoder(_Said)


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
    """A cell for each category and difficulty that occurs; reads every body, a page at a time."""
    of: Counter[tuple[Category | None, Difficulty | None]] = Counter()
    labelled: Counter[tuple[Category | None, Difficulty | None, str]] = Counter()
    query = _bodies_with_labels(panel)
    after, size = 0, PAGE
    while size == PAGE:
        with in_our_words(), store.reading.connect() as connection:
            rows = connection.execute(query.where(experiences.c.position > after)).all()
        for row in rows:
            context = _READ.decode(row.body).context
            of[context.category, context.difficulty] += 1
            labelled[context.category, context.difficulty, row.label] += 1
        size = len(rows)
        after = rows[-1].position if rows else after
    return [
        Cell(
            category=category,
            difficulty=difficulty,
            experiences=n,
            excellent=labelled[category, difficulty, Label.EXCELLENT],
            good=labelled[category, difficulty, Label.GOOD],
        )
        for (category, difficulty), n in sorted(of.items(), key=lambda item: _words(item[0]))
    ]


def _words(of: tuple[str | None, ...]) -> tuple[str, ...]:
    """In the order of the alphabet, what has no name last."""
    return tuple(name or "~" for name in of)


def _bodies_with_labels(panel: str) -> Select[Any]:
    judged = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
    return (
        select(experiences.c.position, events.c.body, assessments.c.label)
        .select_from(experiences)
        .join(events, events.c.position == experiences.c.position)
        .outerjoin(assessments, judged)
        .order_by(experiences.c.position)
        .limit(PAGE)
    )
