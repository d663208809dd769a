"""Verbs on reviews: what a person looks at next, what was decided, what the panel had said.

An experience is drawn for one person, and stays theirs until it is reviewed. The choice is made
beside the writer, which only notes it where nothing changed meanwhile: nobody who records waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, get_args

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    distinct,
    func,
    insert,
    or_,
    select,
)

from store import log
from store.engine import in_our_words
from store.errors import NotFound, Rejected
from store.events import Store, StoreReader, bodies, taken
from store.experiences import consent_changes, consents_to_training, tally
from store.log import Appended, Fact
from store.privacy import batches
from store.records import WRITTEN, Assessment, Drawn, Experience, Noun, Review, now
from store.sources import OURS
from store.tables import assessments, draws, events, experiences, feedback, reviews

QUEUE: tuple[Drawn, ...] = ("uncertain", "random", "uncertain", "disagreed")
"""Half where the panel is least sure, a quarter by lot, which alone measures it without bias,
and a quarter where its scorers disagree or somebody objected."""
KEPT_APART = 4
"""Each fourth experience is only ever drawn at random: did the other kinds take from all, what is
left to the random draw would lack what the panel is unsure of."""
RECENT = 2_000
"""Drawn is from so many of the newest: reviews tell how the panel does now, not a year ago."""
LOW_RATING = 2
"""A rating up to this one is an objection."""


class Draw(Noun, frozen=True, kw_only=True):
    """What a person is asked to look at."""

    experience: Experience
    position: int
    drawn: Drawn
    assessment: Assessment | None
    """By the panel asked for; None where it changed since, and has not come to this one yet."""


class Judgement(Noun, frozen=True, kw_only=True):
    """A person's decision beside what the panel said."""

    review: Review
    experience: Experience
    position: int
    """Of the experience."""
    consented: bool
    """Consent to training as it stands."""
    assessment: Assessment | None
    """By the panel asked for."""


def reviewed(r: Review) -> Fact:
    """The fact that a person decided on an experience."""
    about = f"experience/{r.experience_id}"
    return Fact(type="experience.reviewed", stream=about, key=f"review/{r.id}", noun=r, about=about)


def record(store: Store, review: Review, *, actor: str) -> Appended:
    """Records a review; safe to repeat. Raises NotFound, Rejected, Conflict.

    How the experience was drawn is what the store knows, whatever the review says. It stays so
    when it is reviewed again: second thoughts do not take it from those drawn at random.
    """
    try:
        msgspec.convert(msgspec.to_builtins(review), Review)
    except msgspec.ValidationError as error:
        raise Rejected(f"This review cannot be kept: {error}.") from error
    fault = review.fault()
    if fault is not None:
        pointer, reason = fault
        raise Rejected(f"This review contradicts itself: {reason}.", pointer=pointer)

    def work(connection: Connection) -> Appended:
        log.head_of(connection, lock=True)  # nobody erases or draws it meanwhile
        key = f"experience/{review.experience_id}"
        position = connection.execute(select(events.c.position).where(events.c.key == key)).scalar()
        if position is None:
            raise NotFound(
                f"No experience {review.experience_id!r} is recorded.",
                hint="`bhavana search` finds ids.",
            )
        drawn = _how_drawn(connection, position, review.experience_id)
        fact = reviewed(msgspec.structs.replace(review, drawn=drawn))
        [appended] = store.writer.append_within(connection, [log.line(fact, actor)])
        taken(fact, appended)
        connection.execute(delete(draws).where(draws.c.position == position))
        return appended

    return store.write(work)


def _how_drawn(connection: Connection, position: int, experience_id: str) -> Drawn:
    """As noted when it was drawn; once it is reviewed, as its reviews say."""
    noted = select(draws.c.drawn).where(draws.c.position == position)
    said = select(reviews.c.drawn).where(reviews.c.experience_id == experience_id).limit(1)
    drawn: Drawn | None = connection.execute(noted).scalar() or connection.execute(said).scalar()
    return drawn or "chosen"


def draw(store: Store, panel: str, *, reviewer: str, cut: float) -> Draw | None:
    """What this person should look at next, of what this panel assessed; None: nothing is left.

    What was drawn for them before comes first, until it is reviewed: nobody gets rid of one by
    asking again. `cut` is the harm at which the panel is least sure.
    """
    while True:
        with in_our_words(), store.reading.connect() as connection:
            waiting = _waiting(connection, panel, reviewer)
            if waiting is not None:
                return waiting
            count = _drawn_so_far(connection)
            found = _next(connection, panel, count, cut)
        if found is None:
            return None
        _note(store, panel, reviewer, count, *found)


def _waiting(connection: Connection, panel: str, reviewer: str) -> Draw | None:
    """What was drawn for this person and is not reviewed yet."""
    said = events.alias("said")
    judged = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
    query = (
        select(draws.c.position, draws.c.drawn, events.c.body, said.c.body.label("assessment"))
        .join(experiences, experiences.c.position == draws.c.position)
        .join(events, events.c.position == draws.c.position)
        .outerjoin(assessments, judged)
        .outerjoin(said, said.c.position == assessments.c.position)
        .where(draws.c.reviewer == reviewer)
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    return Draw(
        experience=msgspec.json.decode(row.body, type=Experience),
        position=row.position,
        drawn=row.drawn,
        assessment=_assessment(row.assessment),
    )


def _drawn_so_far(connection: Connection) -> int:
    """How many experiences were drawn in all, those that wait for their review among them."""
    done = select(func.count(distinct(reviews.c.experience_id))).where(reviews.c.drawn != "chosen")
    waiting = select(func.count()).select_from(draws)
    return connection.execute(done).scalar_one() + connection.execute(waiting).scalar_one()


def _next(connection: Connection, panel: str, count: int, cut: float) -> tuple[Drawn, int] | None:
    """The kind whose turn it is, or the next one that has something, and a position."""
    for turn in range(len(QUEUE)):
        drawn = QUEUE[(count + turn) % len(QUEUE)]
        position = connection.execute(_of_kind(_candidates(panel), drawn, cut)).scalar()
        if position is not None:
            return drawn, position
    return None


def _candidates(panel: str) -> Select[int]:
    """Positions of what this panel assessed, and nobody reviewed or is asked to."""
    judged = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
    return (
        select(experiences.c.position)
        .join(assessments, judged)
        .where(
            experiences.c.source.not_in(WRITTEN),
            experiences.c.withheld.is_(False),  # there is nothing to read
            experiences.c.id.not_in(select(reviews.c.experience_id)),
            experiences.c.position.not_in(select(draws.c.position)),
        )
    )


def _of_kind(candidates: Select[int], drawn: Drawn, cut: float) -> Select[int]:
    """The first one of a kind, of the newest."""
    newest = experiences.c.position.desc()
    apart = experiences.c.position % KEPT_APART == 0
    candidates = candidates.where(apart if drawn == "random" else ~apart)
    candidates = candidates.where(
        experiences.c.position.in_(candidates.order_by(newest).limit(RECENT))
    )
    if drawn == "uncertain":
        harm = assessments.c.actual_harm
        some = candidates.where(harm.is_not(None)).order_by(func.abs(harm - cut), newest)
    elif drawn == "disagreed":
        objected = select(feedback.c.experience_id).where(
            feedback.c.experience_id.is_not(None), objects()
        )
        some = candidates.where(
            or_(
                assessments.c.doubted,
                assessments.c.abstained,
                experiences.c.id.in_(objected),
            )
        ).order_by(newest)
    else:
        some = candidates.order_by(func.random())
    return some.limit(1)


def objects() -> ColumnElement[bool]:
    """Feedback by which somebody says that a response was not good."""
    kind, value = feedback.c.kind, feedback.c.value
    return or_(
        kind == "correction",
        and_(kind == "rating", value <= LOW_RATING),
        and_(kind.in_(("thumb", "preference", "outcome")), value < 0),
    )


def newest_decisions(as_of: int) -> Select[tuple[int]]:
    """Positions of the last review of each experience, of those known at a position."""
    table = reviews.c
    known = select(func.max(table.position)).where(table.position <= as_of)
    return known.group_by(table.experience_id)


def corrections(store: StoreReader, *, as_of: int) -> dict[str, str]:
    """By experience id, the answer that a person last wrote in place of the model's."""
    return {
        review.experience_id: review.text
        for review, _ in decided(store, as_of=as_of)
        if review.text is not None
    }


def refused(store: StoreReader, *, as_of: int) -> list[int]:
    """Positions of the experiences whose answer a person last rejected, or wrote anew."""
    query = (
        select(experiences.c.position)
        .join(events, events.c.position == experiences.c.position)
        .join(reviews, events.c.key == "experience/" + reviews.c.experience_id)
        .where(
            reviews.c.position.in_(newest_decisions(as_of)),
            reviews.c.decision.in_(("reject", "correct")),
        )
        .order_by(experiences.c.position)
    )
    with in_our_words(), store.reading.connect() as connection:
        return list(connection.execute(query).scalars())


def _note(store: Store, panel: str, reviewer: str, count: int, drawn: Drawn, position: int) -> None:
    """Notes a draw, unless somebody else drew or reviewed meanwhile, or it was erased."""

    def work(connection: Connection) -> None:
        log.head_of(connection, lock=True)  # several daemons draw one after the other
        candidate = _candidates(panel).where(experiences.c.position == position)
        mine = select(draws.c.position).where(draws.c.reviewer == reviewer)
        if (
            connection.execute(mine).first() is None
            and _drawn_so_far(connection) == count
            and connection.execute(candidate).first() is not None
        ):
            row = {"position": position, "reviewer": reviewer, "drawn": drawn}
            connection.execute(insert(draws), row | {"drawn_at": now().isoformat()})

    store.write(work)


def judgements(store: Store, panel: str) -> list[Judgement]:
    """The newest review of every experience, in the order of the reviews."""
    told, said = events.alias("told"), events.alias("said")
    newest = select(func.max(reviews.c.position)).group_by(reviews.c.experience_id)
    judged = and_(
        assessments.c.experience_id == reviews.c.experience_id, assessments.c.panel == panel
    )
    query = (
        select(
            events.c.body,
            told.c.position,
            told.c.body.label("experience"),
            said.c.body.label("assessment"),
        )
        .select_from(reviews)
        .join(events, events.c.position == reviews.c.position)
        .join(told, told.c.key == "experience/" + reviews.c.experience_id)
        .outerjoin(assessments, judged)
        .outerjoin(said, said.c.position == assessments.c.position)
        .where(reviews.c.position.in_(newest))
        .order_by(reviews.c.position)
    )
    changed = consent_changes(store, store.position())
    with in_our_words(), store.reading.connect() as connection:
        rows = connection.execute(query).all()
    found = []
    for row in rows:
        experience = msgspec.json.decode(row.experience, type=Experience)
        found.append(
            Judgement(
                review=msgspec.json.decode(row.body, type=Review),
                experience=experience,
                position=row.position,
                consented=consents_to_training(experience, changed),
                assessment=_assessment(row.assessment),
            )
        )
    return found


class Decided(NamedTuple):
    """A person's decision as it stands."""

    review: Review
    position: int
    """Of the review."""


def decided(store: StoreReader, *, as_of: int) -> list[Decided]:
    """The newest review of every experience, of those up to a position, in their order."""
    query = (
        select(events.c.body, reviews.c.position)
        .select_from(reviews)
        .join(events, events.c.position == reviews.c.position)
        .where(reviews.c.position.in_(newest_decisions(as_of)))
        .order_by(reviews.c.position)
    )
    with in_our_words(), store.reading.connect() as connection:
        rows = connection.execute(query).all()
    return [Decided(msgspec.json.decode(row.body, type=Review), row.position) for row in rows]


class Beside(NamedTuple):
    """A person's word on an answer, beside the panel's."""

    position: int
    """Of the experience."""
    harmful: bool
    actual_harm: float | None
    """By the panel asked for; None where it abstains, or has not judged the answer."""


def at_random(store: StoreReader, panel: str) -> list[Beside]:
    """The newest review of every experience that was drawn at random, in the order of reviews."""
    return beside(store, panel, drawn="random")


def beside(store: StoreReader, panel: str, *, drawn: Drawn | None = None) -> list[Beside]:
    """The newest review of every experience that was drawn so, or of all, in their order."""
    newest = select(func.max(reviews.c.position)).group_by(reviews.c.experience_id)
    judged = and_(
        assessments.c.experience_id == reviews.c.experience_id, assessments.c.panel == panel
    )
    query = (
        select(events.c.position, reviews.c.harmful, assessments.c.actual_harm)
        .select_from(reviews)
        .join(events, events.c.key == "experience/" + reviews.c.experience_id)
        .outerjoin(assessments, judged)
        .where(reviews.c.position.in_(newest))
        .order_by(reviews.c.position)
    )
    if drawn is not None:
        query = query.where(reviews.c.drawn == drawn)
    with in_our_words(), store.reading.connect() as connection:
        return [Beside(*row) for row in connection.execute(query)]


def by_several(store: StoreReader) -> list[dict[str, Review]]:
    """Of each experience that several people decided on, the newest review of each, by name."""
    often = select(reviews.c.experience_id).group_by(reviews.c.experience_id)
    query = (
        bodies(reviews)
        .where(reviews.c.experience_id.in_(often.having(func.count() > 1)))
        .order_by(reviews.c.position)
    )
    of: defaultdict[str, dict[str, Review]] = defaultdict(dict)
    with in_our_words(), store.reading.connect() as connection:
        for body in connection.execute(query).scalars():
            review = msgspec.json.decode(body, type=Review)
            of[review.experience_id][review.reviewer] = review
    return [said for said in of.values() if len(said) > 1]


def consented_among(store: StoreReader, positions: Sequence[int]) -> set[int]:
    """Those of the experiences that may be learned from as consent stands."""
    changed = consent_changes(store, store.position())
    found: set[int] = set()
    for some in batches(positions):
        query = select(events.c.position, events.c.body).where(events.c.position.in_(some))
        with in_our_words(), store.reading.connect() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            if bytes(row.body) != log.ERASED:
                experience = msgspec.json.decode(row.body, type=Experience)
                if consents_to_training(experience, changed):
                    found.add(row.position)
    return found


def count(store: StoreReader) -> dict[Drawn, int]:
    """Reviews by how their experiences were drawn."""
    counts = tally(store, "review")
    return {drawn: counts.get(drawn, 0) for drawn in get_args(Drawn)}


def harms_seen(
    store: StoreReader, panel: str, *, until: int | None = None, after: int = 0, limit: int
) -> list[tuple[float | None, float | None]]:
    """(actual_harm, weighted) by this panel of what people's frontends sent, newest first.

    `after` and `until` are positions of experiences.
    """
    position = experiences.c.position
    judged = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
    query = (
        select(assessments.c.actual_harm, assessments.c.weighted)
        .select_from(experiences)
        .join(assessments, judged)
        .where(experiences.c.source.not_in(OURS), position > after)
        .order_by(position.desc())
        .limit(limit)
    )
    if until is not None:
        query = query.where(position <= until)
    with in_our_words(), store.reading.connect() as connection:
        return [(row.actual_harm, row.weighted) for row in connection.execute(query)]


def seen_first(store: StoreReader, panel: str, *, nth: int) -> int | None:
    """Position of the n-th experience that people's frontends sent and this panel assessed."""
    position = experiences.c.position
    judged = and_(assessments.c.experience_id == experiences.c.id, assessments.c.panel == panel)
    query = (
        select(position)
        .join(assessments, judged)
        .where(experiences.c.source.not_in(OURS))
        .order_by(position)
        .offset(nth - 1)
        .limit(1)
    )
    with in_our_words(), store.reading.connect() as connection:
        found: int | None = connection.execute(query).scalar()
    return found


def _assessment(body: bytes | None) -> Assessment | None:
    return None if body is None else msgspec.json.decode(body, type=Assessment)
