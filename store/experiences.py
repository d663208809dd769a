"""Verbs on experiences: record, give feedback, assess, and what is eligible for training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from store import bulk, keys, sources
from store.engine import in_our_words
from store.errors import NotFound
from store.events import Store, StoreReader, bodies
from store.log import ERASED, Appended, Fact
from store.privacy import batches
from store.projections import label_of
from store.records import (
    ApiKey,
    Assessment,
    ConsentChange,
    Decision,
    Experience,
    Feedback,
    Label,
    Noun,
    Tier,
    now,
)
from store.tables import (
    assessments,
    claims,
    consents,
    events,
    experiences,
    feedback,
    reviews,
    tallies,
)

BATCH = 500
CLAIM = timedelta(minutes=10)
"""How long a worker is believed to be assessing what it claimed."""


class Assessed(Noun, frozen=True, kw_only=True):
    """An experience with what the panel in force said of it."""

    experience: Experience
    assessment: Assessment
    position: int
    consented: bool
    """Consent to training as it stands: what was given at the door, or changed since."""
    tier: Tier
    """How far its source is trusted."""
    decision: Decision | None = None
    """What a person last decided on it; None where nobody reviewed it."""


def recorded(e: Experience) -> Fact:
    """The fact that an experience was recorded."""
    name = f"experience/{e.id}"
    about = f"conversation/{e.conversation_id}" if e.conversation_id else None
    return Fact(type="experience.recorded", stream=name, key=name, noun=e, about=about)


def given(f: Feedback) -> Fact:
    """The fact that feedback was given."""
    on = f"experience/{f.experience_id}" if f.experience_id else f"conversation/{f.conversation_id}"
    return Fact(
        type="feedback.given",
        stream=on,
        key=f"feedback/{f.id}",
        noun=f,
        about=on,
    )


def consent_changed(c: ConsentChange) -> Fact:
    """The fact that consent was given or withdrawn."""
    return Fact(
        type="consent.changed",
        stream=f"{c.scope}/{c.scope_id}",
        key=f"consent/{c.id}",
        noun=c,
        about=f"{c.scope}/{c.scope_id}",
    )


def judged(a: Assessment) -> Fact:
    """The fact that an experience was assessed."""
    about = f"experience/{a.experience_id}"
    return Fact(
        type="experience.assessed",
        stream=about,
        key=f"assessment/{a.experience_id}/{a.panel}",
        noun=a,
        about=about,
    )


def record(store: Store, items: Sequence[Experience], *, actor: str = "bhavana") -> list[Appended]:
    """Records experiences in one transaction, one result each; safe to repeat."""
    return store.append([recorded(e) for e in items], actor=actor)


def give_feedback(store: Store, items: Sequence[Feedback], *, actor: str) -> list[Appended]:
    """Records feedback, one result each; it may arrive before its experience does."""
    return store.append([given(f) for f in items], actor=actor)


def assess(store: Store, items: Sequence[Assessment]) -> list[Appended]:
    """Records assessments: one for each experience and panel, a repeat is a duplicate.

    Of an experience that was erased meanwhile none is recorded. The store fills in where in the
    log the experience stands.
    """
    at = _positions(store, [a.experience_id for a in items])
    placed = [msgspec.structs.replace(a, position=at.get(a.experience_id)) for a in items]
    return store.append([judged(a) for a in placed])


def _positions(store: StoreReader, ids: Iterable[str]) -> dict[str, int]:
    """Where in the log these experiences stand, by id."""
    found: dict[str, int] = {}
    for some in batches(ids):
        keys = [f"experience/{name}" for name in some]
        query = select(events.c.key, events.c.position).where(events.c.key.in_(keys))
        with in_our_words(), store.reading.connect() as connection:
            for key, position in connection.execute(query):
                found[key.removeprefix("experience/")] = position
    return found


def bodies_at(store: StoreReader, positions: Sequence[int]) -> dict[int, bytes]:
    """The experiences at these positions, some hundreds, as they stand in the log.

    Those that were erased meanwhile are left out. Raises nothing for them: the caller asks
    `privacy.erased_among` when it records what it made.
    """
    with in_our_words(), store.reading.connect() as connection:
        query = select(events.c.position, events.c.body).where(
            bulk.among(connection, events.c.position)
        )
        found = connection.execute(query, {"listed": bulk.listed(positions)}).all()
    return {position: body for position, body in found if body != ERASED}


def get(store: Store, experience_id: str) -> Experience:
    """One experience; raises NotFound, for an erased one, too."""
    query = select(events.c.body).where(events.c.key == f"experience/{experience_id}")
    with in_our_words(), store.reading.connect() as connection:
        body = connection.execute(query).scalar()
    if body is None:
        raise NotFound(
            f"No experience {experience_id!r} is recorded.", hint="`bhavana search` finds ids."
        )
    return msgspec.json.decode(body, type=Experience)


class Listed(Noun, frozen=True, kw_only=True):
    """One experience in a list, without its words."""

    position: int
    id: str
    source: str
    conversation: str | None
    subject: str | None
    consented: bool


def listed(
    store: Store,
    *,
    before: int | None = None,
    limit: int = 50,
    source: str | None = None,
    conversation: str | None = None,
    subject: str | None = None,
) -> list[Listed]:
    """Experiences, newest first, without their words; `before` a position, to page on."""
    table = experiences.c
    query = select(*(table[name] for name in Listed.__struct_fields__))
    for column, wanted in (
        (table.source, source),
        (table.conversation, conversation),
        (table.subject, subject),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if before is not None:
        query = query.where(table.position < before)
    query = query.order_by(table.position.desc()).limit(limit)
    with in_our_words(), store.reading.connect() as connection:
        return [Listed(**row) for row in connection.execute(query).mappings()]


def feedback_on(store: Store, experience_id: str) -> list[Feedback]:
    """The feedback on one experience, in the order it came."""
    query = (
        bodies(feedback)
        .where(feedback.c.experience_id == experience_id)
        .order_by(feedback.c.position)
    )
    with in_our_words(), store.reading.connect() as connection:
        return [
            msgspec.json.decode(body, type=Feedback) for body in connection.execute(query).scalars()
        ]


class Heard(Noun, frozen=True, kw_only=True):
    """Feedback on one response, and how far whoever sent it is trusted."""

    feedback: Feedback
    position: int
    source: str
    """The source of the key that it came with; "" where it came with none."""
    tier: Tier
    """Of that source; of nobody's, untrusted. Never trusted is what came with a publishable key,
    which everybody holds, or with one that was revoked."""
    consented: bool
    """Whether whoever speaks said, for themselves, that they may be learned from. The consent of
    the experience stands beside it: it may be another person's."""


def heard(
    store: StoreReader, kinds: Collection[str], *, as_of: int, moment: datetime
) -> Iterator[Heard]:
    """Feedback of these kinds on single responses up to a position, in the order it came.

    `moment` says which quarantines were over and which keys revoked. Any key with the scope may
    speak of any response, so the source of the response says nothing about who speaks.
    """
    sent_with = {f"key:{key.id}": key for key in keys.listed(store)}
    tiers = sources.tiers(store, as_of=as_of, moment=moment)
    changed = consent_changes(store, as_of)
    query = (
        select(feedback.c.position, events.c.body, events.c.actor)
        .join(events, events.c.position == feedback.c.position)
        .where(feedback.c.kind.in_(kinds), feedback.c.experience_id.is_not(None))
        .order_by(feedback.c.position)
        .limit(BATCH)
    )
    after = 0
    while True:
        page = query.where(feedback.c.position > after, feedback.c.position <= as_of)
        with in_our_words(), store.reading.connect() as connection:
            rows = connection.execute(page).all()
        if not rows:
            return
        for row in rows:
            key = sent_with.get(row.actor)
            said = msgspec.json.decode(row.body, type=Feedback)
            yield Heard(
                feedback=said,
                position=row.position,
                source=(key and key.source) or "",
                tier=_trust_in(key, tiers, moment),
                consented=said.subject is not None
                and changed.get(("subject", said.subject), (0, False))[1],
            )
        after = rows[-1].position


def _trust_in(key: ApiKey | None, tiers: Mapping[str, Tier], moment: datetime) -> Tier:
    if key is None or key.source is None:
        return "untrusted"
    revoked = key.revoked_at is not None and key.revoked_at <= moment
    if tiers[key.source] == "trusted" and (revoked or key.kind == "publishable"):
        return "untrusted"
    return tiers[key.source]


def unassessed(
    store: Store,
    panel: str,
    *,
    as_of: int,
    limit: int = BATCH,
    models: Collection[str] | None = None,
) -> list[Experience]:
    """Experiences up to a position that this panel has not assessed, oldest first.

    `models`: only what these said.
    """
    done = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
    query = (
        bodies(experiences)
        .outerjoin(assessments, done)
        .where(experiences.c.position <= as_of, assessments.c.position.is_(None), *_said_by(models))
        .order_by(experiences.c.position)
        .limit(limit)
    )
    with in_our_words(), store.reading.connect() as connection:
        return [
            msgspec.json.decode(body, type=Experience)
            for body in connection.execute(query).scalars()
        ]


def _said_by(models: Collection[str] | None) -> tuple[ColumnElement[bool], ...]:
    return () if models is None else (experiences.c.model.in_(models),)


def claim(
    store: Store,
    panel: str,
    *,
    as_of: int,
    holder: str,
    limit: int = BATCH,
    models: Collection[str] | None = None,
) -> list[Experience]:
    """Experiences that this panel has not assessed and nobody else works at, oldest first.

    They are this holder's for a while; what it claimed before is given back. Any number of
    workers may claim at once: on PostgreSQL none waits for another.
    """

    def write(connection: Connection) -> list[Experience]:
        moment = now()
        connection.execute(delete(claims).where(claims.c.holder == holder))
        done = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
        held = and_(
            claims.c.position == experiences.c.position,
            claims.c.panel == panel,
            claims.c.until > moment.isoformat(),
        )
        query = (
            select(experiences.c.position, events.c.body)
            .join(events, events.c.position == experiences.c.position)
            .outerjoin(assessments, done)
            .outerjoin(claims, held)
            .where(
                experiences.c.position <= as_of,
                assessments.c.position.is_(None),
                claims.c.position.is_(None),
                *_said_by(models),
            )
            .order_by(experiences.c.position)
            .limit(limit)
            .with_for_update(of=experiences, skip_locked=True)
        )
        rows = connection.execute(query).all()
        if rows:
            positions = [row.position for row in rows]
            of_others = and_(claims.c.panel == panel, claims.c.position.in_(positions))
            connection.execute(delete(claims).where(of_others))  # their time is over
            until = (moment + CLAIM).isoformat()
            connection.execute(
                insert(claims),
                [
                    {"panel": panel, "position": position, "holder": holder, "until": until}
                    for position in positions
                ],
            )
        return [msgspec.json.decode(row.body, type=Experience) for row in rows]

    return store.write(write)


def assessed(store: StoreReader, panel: str, *, as_of: int, moment: datetime) -> Iterator[Assessed]:
    """Experiences up to a position with this panel's assessment, in order of recording.

    Consent, trust and people's decisions are those that were known at the position; `moment`
    says which quarantines were over.
    """
    said = events.alias("said")
    query = (
        select(experiences, events.c.body, said.c.body.label("assessment"))
        .join(assessments, assessments.c.experience_id == experiences.c.id)
        .join(events, events.c.position == experiences.c.position)
        .join(said, said.c.position == assessments.c.position)
        .where(assessments.c.panel == panel)
        .order_by(experiences.c.position)
        .limit(BATCH)
    )
    changed = consent_changes(store, as_of)
    decided = decisions(store, as_of=as_of)
    tiers = sources.tiers(store, as_of=as_of, moment=moment)
    after = 0
    while True:
        page = query.where(experiences.c.position > after, experiences.c.position <= as_of)
        with in_our_words(), store.reading.connect() as connection:
            rows = connection.execute(page).all()
        if not rows:
            return
        for row in rows:
            experience = msgspec.json.decode(row.body, type=Experience)
            yield Assessed(
                experience=experience,
                assessment=msgspec.json.decode(row.assessment, type=Assessment),
                position=row.position,
                consented=consents_to_training(experience, changed),
                tier=tiers[row.source],
                decision=decided.get(experience.id),
            )
        after = rows[-1].position


def decisions(store: StoreReader, *, as_of: int) -> dict[str, Decision]:
    """What a person last decided on each reviewed experience, by its id, up to a position."""
    table = reviews.c
    query = (
        select(table.experience_id, table.decision)
        .where(table.position <= as_of)
        .order_by(table.position)
    )
    with in_our_words(), store.reading.connect() as connection:
        return {row.experience_id: row.decision for row in connection.execute(query)}


def change_consent(store: Store, change: ConsentChange, *, actor: str) -> Appended:
    """Records that consent was given or withdrawn; safe to repeat."""
    return store.append_one(consent_changed(change), actor=actor)


ConsentChanges = dict[tuple[str, str | None], tuple[int, bool]]
"""The newest change for each scope and id: (position, training)."""


def consent_changes(store: StoreReader, as_of: int) -> ConsentChanges:
    """The changes of consent that were known at a position."""
    table = consents.c
    query = (
        select(table.scope, table.scope_id, table.position, table.training)
        .where(table.position <= as_of)
        .order_by(table.position)
    )
    with in_our_words(), store.reading.connect() as connection:
        return {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(query)}


def consents_to_training(e: Experience, changed: ConsentChanges) -> bool:
    """Consent as it stands: the newest change that covers the experience, else the door's."""
    scopes = (("experience", e.id), ("conversation", e.conversation_id), ("subject", e.subject))
    newest = max((changed[scope] for scope in scopes if scope in changed), default=None)
    return e.consent.training if newest is None else newest[1]


def count_by_source(store: StoreReader) -> dict[str, int]:
    """Experiences by source."""
    return tally(store, "source")


def count_feedback(store: StoreReader) -> int:
    """How much feedback was given in all."""
    return sum(tally(store, "feedback").values())


def count_by_label(store: StoreReader, panel: str) -> dict[Label | None, int]:
    """Experiences by this panel's label; None counts those without one (abstained)."""
    counts = tally(store, label_of(panel))
    return {Label(label) if label else None: count for label, count in counts.items()}


def tally(store: StoreReader, name: str) -> dict[str, int]:
    """What is counted under a name, by value."""
    query = select(tallies.c.value, tallies.c.n).where(tallies.c.name == name)
    with in_our_words(), store.reading.connect() as connection:
        return dict(sorted(map(tuple, connection.execute(query))))
