"""Full text over messages and responses: a scan through the log's bodies, a page at a time.

There is no index of words: they would lie in a second place, out of erasure's reach.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, and_, func, select

from store import tags
from store.engine import in_our_words
from store.events import StoreReader
from store.records import Category, Decision, Difficulty, Identifier, Label, Name, Noun, Tag
from store.tables import assessments, events, experiences, reviews

PAGE = 500
AROUND = 40
"""Characters that a snippet shows on either side of the first hit."""


class Filter(Noun, frozen=True, kw_only=True):
    """Which experiences are meant; None: whichever."""

    source: Name | None = None
    category: Category | None = None
    difficulty: Difficulty | None = None
    label: Label | None = None
    """By the panel asked for."""
    tag: Tag | None = None
    decision: Decision | None = None
    """What a person last decided."""


class Hit(Noun, frozen=True, kw_only=True):
    """An experience in which all the words are."""

    id: Identifier
    position: int
    occurred_at: datetime
    source: Name
    category: Category | None
    difficulty: Difficulty | None
    label: Label | None
    decision: Decision | None
    tags: tuple[Tag, ...]
    snippet: str
    """What stands around the first word, on one line."""


class _Message(msgspec.Struct):
    content: str


class _Words(msgspec.Struct):
    """What is read of a body: the rest is passed over, which is quick."""

    id: str
    occurred_at: datetime
    messages: list[_Message]
    response: str

    def texts(self) -> list[str]:
        """All that was said, the response first."""
        return [self.response, *(message.content for message in self.messages)]


_READ = msgspec.json.Decoder(_Words)
_COLUMNS = [experiences.c[name] for name in ("position", "source", "category", "difficulty")]


def search(
    store: StoreReader, words: Sequence[str], *, panel: str, only: Filter | None = None
) -> Iterator[Hit]:
    """Experiences that hold all the words, the newest first, as they are found.

    Upper and lower case are alike; a word may be a part of another one, and hold spaces. Holds
    a page in memory, however large the store is. Raises Unavailable.
    """
    only = only or Filter()
    folded = [_folded(word) for word in words]
    query = _chosen(only, panel).order_by(experiences.c.position.desc()).limit(PAGE)
    before: int | None = None
    while True:
        page = query if before is None else query.where(experiences.c.position < before)
        with in_our_words(), store.reading.connect() as connection:
            rows = connection.execute(page).all()
            hits = [(row, said) for row in rows if (said := _holds(row, folded)) is not None]
            found = _told(connection, hits, words) if hits else []
        yield from found
        if len(rows) < PAGE:
            return
        before = rows[-1].position


def _chosen(only: Filter, panel: str) -> Select[Any]:
    judged = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
    query = (
        select(*_COLUMNS, events.c.body, assessments.c.label)
        .select_from(experiences)
        .join(events, events.c.position == experiences.c.position)
        .outerjoin(assessments, judged)
    )
    if only.source is not None:
        query = query.where(experiences.c.source == only.source)
    if only.category is not None:
        query = query.where(experiences.c.category == only.category)
    if only.difficulty is not None:
        query = query.where(experiences.c.difficulty == only.difficulty)
    if only.label is not None:
        query = query.where(assessments.c.label == only.label)
    if only.tag is not None:
        query = query.where(experiences.c.id.in_(tags.tagged_with(only.tag)))
    if only.decision is not None:
        newest = select(func.max(reviews.c.position)).group_by(reviews.c.experience_id)
        decided = select(reviews.c.experience_id).where(
            reviews.c.position.in_(newest), reviews.c.decision == only.decision
        )
        query = query.where(experiences.c.id.in_(decided))
    return query


def _holds(row: Row[Any], folded: Sequence[str]) -> _Words | None:
    """What was said, where it holds all the words; else None."""
    said = _READ.decode(row.body)
    text = _folded("\n".join(said.texts()))
    return said if all(word in text for word in folded) else None


def _folded(text: str) -> str:
    """Written alike whatever the case, and however accents were typed."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def _told(
    connection: Connection, hits: Sequence[tuple[Row[Any], _Words]], words: Sequence[str]
) -> list[Hit]:
    ids = [said.id for _, said in hits]
    tagged = tags.standing(connection, ids)
    query = (
        select(reviews.c.experience_id, reviews.c.decision)
        .where(reviews.c.experience_id.in_(ids))
        .order_by(reviews.c.position)
    )
    decided: dict[str, Decision] = dict(map(tuple, connection.execute(query)))
    return [
        Hit(
            id=said.id,
            position=row.position,
            occurred_at=said.occurred_at,
            source=row.source,
            category=row.category,
            difficulty=row.difficulty,
            label=None if row.label is None else Label(row.label),
            decision=decided.get(said.id),
            tags=tagged.get(said.id, ()),
            snippet=_snippet(said.texts(), words),
        )
        for row, said in hits
    ]


def _snippet(texts: Sequence[str], words: Sequence[str]) -> str:
    """The surroundings of the first word where it stands; else how the response begins."""
    text, start, end = texts[0], 0, 0
    for word in words[:1]:
        pattern = re.compile(re.escape(word), re.IGNORECASE)
        for one in texts:
            if found := pattern.search(one):
                text, (start, end) = one, found.span()
                break
    first, last = max(0, start - AROUND), end + AROUND
    shown = " ".join(text[first:last].split())
    return f"{'…' if first else ''}{shown}{'…' if last < len(text) else ''}"
