"""Verbs on tags: the curators' own words on an experience, put on and taken off."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, Select, func, select

from store import log
from store.engine import in_our_words
from store.errors import NotFound, Rejected
from store.events import Store, StoreReader, taken
from store.log import Appended, Fact
from store.records import Tagging
from store.tables import events, tags


def tagged(t: Tagging) -> Fact:
    """The fact that a tag was put on an experience, or taken off."""
    about = f"experience/{t.experience_id}"
    return Fact(type="experience.tagged", stream=about, key=f"tagging/{t.id}", noun=t, about=about)


def record(store: Store, tagging: Tagging, *, actor: str) -> Appended | None:
    """Records it; None where the tag is on, or off, already. Raises NotFound, Rejected, Conflict.

    NotFound, too, where a tag is to be taken off that was never put on.
    """
    try:
        msgspec.convert(msgspec.to_builtins(tagging), Tagging)
    except msgspec.ValidationError as error:
        raise Rejected(
            f"{tagging.tag!r} cannot be kept as a tag of {tagging.experience_id!r}.",
            hint="A tag is one word of letters, digits and . : _ -, at most 64.",
        ) from error

    def work(connection: Connection) -> Appended | None:
        log.head_of(connection, lock=True)  # nobody erases it meanwhile
        name = tagging.experience_id
        known = select(events.c.position).where(events.c.key == f"experience/{name}")
        if connection.execute(known).first() is None:
            raise NotFound(
                f"No experience {name!r} is recorded.", hint="`bhavana search` finds ids."
            )
        is_on = tagging.tag in standing(connection, [name]).get(name, ())
        if not (tagging.on or is_on):
            raise NotFound(
                f"The experience {name!r} has no tag {tagging.tag!r}.",
                hint=f"`bhavana show {name}` lists those that it has.",
            )
        if tagging.on and is_on:
            return None
        fact = tagged(tagging)
        [appended] = store.writer.append_within(connection, [log.line(fact, actor)])
        return taken(fact, appended)

    return store.write(work)


def standing(connection: Connection, experience_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The tags that are on each of these experiences, in the order of the alphabet."""
    of_them = tags.c.experience_id.in_(experience_ids)
    newest = select(func.max(tags.c.position)).where(of_them)
    newest = newest.group_by(tags.c.experience_id, tags.c.tag)
    query = select(tags.c.experience_id, tags.c.tag).where(
        tags.c.position.in_(newest), tags.c.is_on
    )
    found: dict[str, list[str]] = {}
    for name, tag in connection.execute(query):
        found.setdefault(name, []).append(tag)
    return {name: tuple(sorted(some)) for name, some in found.items()}


def tagged_with(tag: str) -> Select[str]:
    """The ids of the experiences that this tag is on, to be asked within another query."""
    newest = select(func.max(tags.c.position)).where(tags.c.tag == tag)
    newest = newest.group_by(tags.c.experience_id)
    return select(tags.c.experience_id).where(tags.c.position.in_(newest), tags.c.is_on)


def count(store: StoreReader) -> dict[str, int]:
    """How many experiences each tag is on."""
    newest = select(func.max(tags.c.position)).group_by(tags.c.experience_id, tags.c.tag)
    query = select(tags.c.tag, func.count()).where(tags.c.position.in_(newest), tags.c.is_on)
    with in_our_words(), store.reading.connect() as connection:
        rows = connection.execute(query.group_by(tags.c.tag)).all()
    return dict(sorted(map(tuple, rows)))
