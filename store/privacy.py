"""Verbs on people's wishes: what would be erased, erase it, and where an experience went.

Erasing empties the bodies of the events, and takes the ids out of their rows. The rows stay,
with position, type, time and digest, so that the log keeps its order and its chain. A salted
hash of each id stays, too, and keeps the same thing from being taken again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, Table, bindparam, delete, func, select, update

from store import log, tables
from store.engine import in_our_words
from store.events import Store, bodies
from store.log import Fact
from store.projections import withdraw
from store.records import Erasure, Identifier, Noun, Release, TrainingRun, new_id, now

Scope = Literal["experience", "conversation", "subject"]
BATCH = 500
T = TypeVar("T")
Made = TypeVar("Made", TrainingRun, Release)


class Found(NamedTuple):
    """What a wish reaches: events by position, and the ids of its experiences."""

    experiences: tuple[int, ...]
    feedback: tuple[int, ...]
    assessments: tuple[int, ...]
    reviews: tuple[int, ...]
    tags: tuple[int, ...]
    consents: tuple[int, ...]
    ids: tuple[str, ...]
    conversations: tuple[str, ...]
    """Of which nothing is left without these."""

    @property
    def positions(self) -> tuple[int, ...]:
        """All of them, in order."""
        on_them = (self.feedback, self.assessments, self.reviews, self.tags, self.consents)
        parts = (self.experiences, *on_them)
        return tuple(sorted(position for part in parts for position in part))


class Went(Noun, frozen=True, kw_only=True):
    """Where experiences went: whatever learned from them, by id."""

    datasets: tuple[Identifier, ...] = ()
    runs: tuple[Identifier, ...] = ()
    adapters: tuple[str, ...] = ()
    """The runs' adapters, by hash."""
    releases: tuple[Identifier, ...] = ()
    refits: tuple[Identifier, ...] = ()
    """Whose heads learned from what people decided on them."""


def find(store: Store, scope: Scope, name: str) -> Found:
    """What erasing this experience, conversation or person would reach."""
    with in_our_words(), store.reading.connect() as connection:
        return _find(connection, scope, name)


def erase(store: Store, scope: Scope, name: str, *, reason: str, actor: str) -> Erasure | None:
    """Erases the words and ids from the store, in one transaction; None when nothing is there.

    What belongs to an erased experience or conversation and comes later is not taken. SQLite
    overwrites what is deleted; `scrub` afterwards takes the rest out of its pages and its log.
    """

    def work(connection: Connection) -> Erasure | None:
        log.head_of(connection, lock=True)  # nobody records anything between finding and erasing
        found = _find(connection, scope, name)
        return erase_found(store, connection, found, (scope, name), reason=reason, actor=actor)

    return store.write(work)


def where_it_went(store: Store, experiences: Iterable[int]) -> Went:
    """What learned from these, by position: datasets, runs, adapters, releases and refits.

    A run whose training began with a release that learned from them did, too.
    """
    datasets, refits, members = tables.datasets.c, tables.refits.c, tables.members.c
    of_datasets: dict[str, str] = {}
    of_refits: dict[int, str] = {}
    with in_our_words(), store.reading.connect() as connection:
        for positions in batches(experiences):
            query = (
                select(datasets.id, datasets.cycle_id)
                .join(tables.members, members.position == datasets.position)
                .where(members.member.in_(positions))
                .distinct()
            )
            of_datasets |= {row[0]: row[1] for row in connection.execute(query)}
            query = (
                select(refits.position, refits.id)
                .join(tables.members, members.position == refits.position)
                .where(members.member.in_(positions))
                .distinct()
            )
            of_refits |= {row[0]: row[1] for row in connection.execute(query)}

        cycles = set(of_datasets.values())
        runs = _made(connection, tables.runs, TrainingRun)
        releases = _made(connection, tables.releases, Release)
        cycles = _descended(cycles, runs, releases)
        runs = [run for run in runs if run.cycle_id in cycles]
        return Went(
            datasets=tuple(sorted(of_datasets)),
            runs=tuple(run.id for run in runs),
            adapters=tuple(dict.fromkeys(run.adapter_hash for run in runs)),
            releases=tuple(release.id for release in releases if release.cycle_id in cycles),
            refits=tuple(of_refits[position] for position in sorted(of_refits)),
        )


def _made(connection: Connection, table: Table, kind: type[Made]) -> list[Made]:
    found = connection.execute(bodies(table).order_by(table.c.id)).scalars()
    return [msgspec.json.decode(body, type=kind) for body in found]


def _descended(
    cycles: set[str], runs: Iterable[TrainingRun], releases: Iterable[Release]
) -> set[str]:
    """These cycles, and those whose training began with a release that one of them made."""
    made = {release.id: release.cycle_id for release in releases}
    found: set[str] = set()
    while new := cycles - found:
        found |= new
        cycles = {run.cycle_id for run in runs if run.parent and made.get(run.parent) in new}
    return found


def of_key(store: Store, key_id: str) -> dict[int, str]:
    """The experiences that came with a key, id by position: what its theft put at stake.

    Of those that were erased since the id is empty; what learned from them still did.
    """
    events = tables.events.c
    query = (
        select(events.position, events.stream)
        .where(events.actor == f"key:{key_id}", events.type == "experience.recorded")
        .order_by(events.position)
    )
    with in_our_words(), store.reading.connect() as connection:
        return {
            position: "" if stream == log.ERASED_STREAM else stream.removeprefix("experience/")
            for position, stream in connection.execute(query)
        }


def erased_among(store: Store, positions: Sequence[int]) -> set[int]:
    """Those of the events whose words are gone."""
    events = tables.events.c
    found: set[int] = set()
    with in_our_words(), store.reading.connect() as connection:
        for batch in batches(positions):
            query = select(events.position).where(
                events.position.in_(batch), events.stream == log.ERASED_STREAM
            )
            found |= set(connection.execute(query).scalars())
    return found


def _find(connection: Connection, scope: Scope, name: str) -> Found:
    experiences = tables.experiences.c
    feedback, consents = tables.feedback.c, tables.consents.c
    of = {"conversation": experiences.conversation, "subject": experiences.subject}
    if scope == "experience":
        query = select(experiences.position, experiences.id).join(
            tables.events, tables.events.c.position == experiences.position
        )
        query = query.where(tables.events.c.key == f"experience/{name}")
    else:
        query = select(experiences.position, experiences.id).where(of[scope] == name)
    ordered = connection.execute(query.order_by(experiences.position))
    some = [(row.position, row.id) for row in ordered]
    given = {
        "experience": feedback.experience_id == name,
        "conversation": feedback.conversation == name,
        "subject": feedback.subject == name,
    }
    said = set(connection.execute(select(feedback.position).where(given[scope])).scalars())
    changed = (consents.scope == scope) & (consents.scope_id == name)
    consented = set(connection.execute(select(consents.position).where(changed)).scalars())
    return with_what_is_on(connection, some, said, consented)


def with_what_is_on(
    connection: Connection,
    some: Sequence[tuple[int, str]],
    said: set[int],
    consented: set[int],
) -> Found:
    """Experiences, by position and id, and what is on each, and on conversations that hold
    nothing else; beside what was found already.
    """
    feedback, assessments = tables.feedback.c, tables.assessments.c
    reviews, tags, consents = tables.reviews.c, tables.tags.c, tables.consents.c
    ids = tuple(name for _, name in some)
    judged: set[int] = set()
    reviewed: set[int] = set()
    tagged: set[int] = set()
    conversations = _emptied(connection, [position for position, _ in some])
    for batch in batches(conversations):
        on = feedback.conversation.in_(batch)
        said |= set(connection.execute(select(feedback.position).where(on)).scalars())
        on_all = (consents.scope == "conversation") & consents.scope_id.in_(batch)
        consented |= set(connection.execute(select(consents.position).where(on_all)).scalars())
    for batch in batches(ids):
        on = feedback.experience_id.in_(batch)
        said |= set(connection.execute(select(feedback.position).where(on)).scalars())
        of_them = assessments.experience_id.in_(batch)
        judged |= set(connection.execute(select(assessments.position).where(of_them)).scalars())
        of_them = reviews.experience_id.in_(batch)
        reviewed |= set(connection.execute(select(reviews.position).where(of_them)).scalars())
        of_them = tags.experience_id.in_(batch)
        tagged |= set(connection.execute(select(tags.position).where(of_them)).scalars())
        on_one = (consents.scope == "experience") & consents.scope_id.in_(batch)
        consented |= set(connection.execute(select(consents.position).where(on_one)).scalars())
    return Found(
        experiences=tuple(position for position, _ in some),
        feedback=tuple(sorted(said)),
        assessments=tuple(sorted(judged)),
        reviews=tuple(sorted(reviewed)),
        tags=tuple(sorted(tagged)),
        consents=tuple(sorted(consented)),
        ids=ids,
        conversations=conversations,
    )


def _emptied(connection: Connection, positions: Sequence[int]) -> tuple[str, ...]:
    """The conversations of which these experiences are all that there is."""
    conversation = tables.experiences.c.conversation
    ours: Counter[str] = Counter()
    for batch in batches(positions):
        query = select(conversation).where(tables.experiences.c.position.in_(batch))
        ours.update(connection.execute(query.where(conversation.is_not(None))).scalars())
    emptied: list[str] = []
    for names in batches(ours):
        counted = select(conversation, func.count()).where(conversation.in_(names))
        rows = connection.execute(counted.group_by(conversation))
        emptied += [name for name, count in rows if count == ours[name]]
    return tuple(sorted(emptied))


def erase_found(
    store: Store,
    connection: Connection,
    found: Found,
    of: tuple[Scope | Literal["age"], str],
    *,
    reason: str,
    actor: str,
) -> Erasure | None:
    """Empties what was found and records that, in the caller's transaction.

    The caller holds the log's lock. None when nothing was found.
    """
    salt = log.salt(connection)
    scope, name = of
    if scope != "age":
        closed = {f"conversation/{conversation}" for conversation in found.conversations}
        closed |= set() if scope == "subject" else {f"{scope}/{name}"}  # a person may come back
        log.bury(connection, (log.tombstone(salt, what) for what in sorted(closed)))
    if not found.positions:
        return None
    for positions in batches(found.positions):
        _empty(connection, positions, salt)
    erasure = Erasure(
        id=new_id("erasure"),
        scope=scope,
        scope_hash=log.tombstone(salt, f"{scope}/{name}"),
        positions=found.positions,
        experiences=found.experiences,
        reason=reason,
        erased_at=now(),
    )
    fact = Fact(
        type="experience.erased",
        stream=f"erasure/{erasure.id}",
        key=f"erasure/{erasure.id}",
        noun=erasure,
    )
    store.writer.append_within(connection, [log.line(fact, actor)])
    return erasure


def _empty(connection: Connection, positions: Sequence[int], salt: bytes) -> None:
    events = tables.events
    rows = connection.execute(
        select(events.c.position, events.c.key).where(events.c.position.in_(positions))
    ).all()
    hashes = {row.position: log.tombstone(salt, row.key) for row in rows}
    connection.execute(
        update(events)
        .where(events.c.position == bindparam("at"))
        .values(body=log.ERASED, stream=log.ERASED_STREAM, key=bindparam("stone")),
        [{"at": p, "stone": f"{log.ERASED_STREAM}/{h}"} for p, h in hashes.items()],
    )
    log.bury(connection, hashes.values())
    withdraw(connection, positions)
    connection.execute(delete(tables.draws).where(tables.draws.c.position.in_(positions)))


def batches(values: Iterable[T]) -> Iterator[list[T]]:
    """The values, BATCH at a time."""
    listed = list(values)
    for start in range(0, len(listed), BATCH):
        yield listed[start : start + BATCH]
