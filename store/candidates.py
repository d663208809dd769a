"""What selection asks of every experience, as columns: all but its words.

A database answers for all of them many times as fast as what was said can be read.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Subquery,
    and_,
    case,
    false,
    func,
    literal,
    null,
    or_,
    select,
)

from store import sources
from store.events import StoreReader
from store.reviews import objects
from store.tables import assessments, consents, experiences, feedback, reviews


def candidates(store: StoreReader, panel: str, *, as_of: int, moment: datetime) -> Subquery:
    """One row for each experience up to a position that this panel assessed, to select from.

    The columns are `position`, `id`, `source`, `conversation`, `subject`, `category`,
    `difficulty`, `withheld`; `consented` to training as consent stood at the position; `tier` of
    the source, at the position and the moment; `decision`, what a person last decided, or None;
    `objected`, whether somebody said that it was no good; and the panel's `actual_harm`,
    `weighted`, `label`, `abstained`, `doubted`, `unfit` and `refusal`.
    """
    judged = and_(
        assessments.c.panel == panel,
        assessments.c.experience <= as_of,
        assessments.c.experience == experiences.c.position,
    )
    table = experiences.c
    judged_at = assessments.c.experience.label("position")  # its index has them in this order
    return (
        select(
            *(judged_at, table.id, table.source, table.conversation, table.subject),
            *(table.category, table.difficulty, table.withheld),
            _consented(as_of).label("consented"),
            _tier(store, as_of, moment).label("tier"),
            _decision(as_of).label("decision"),
            or_(_objected("experience_id", as_of), _objected("conversation", as_of)).label(
                "objected"
            ),
            *(
                assessments.c[name]
                for name in (
                    *("actual_harm", "weighted", "label", "abstained", "doubted"),
                    *("unfit", "refusal"),
                )
            ),
        )
        .select_from(assessments)
        .join(experiences, judged)
        .subquery("candidates")
    )


# Of a million few were spoken of again. Each question is therefore asked of a set first, and
# of a table only for those that are in the set: much cheaper than to look for every one.


def _consented(as_of: int) -> ColumnElement[bool]:
    """Consent as it stands: the newest change that covers the experience, else the door's."""
    change = consents.c
    named = {
        "experience": experiences.c.id,
        "conversation": experiences.c.conversation,
        "subject": experiences.c.subject,
    }
    known = {scope: and_(change.scope == scope, change.position <= as_of) for scope in named}
    covered = [
        name.in_(select(change.scope_id).where(known[scope])) for scope, name in named.items()
    ]
    covers = [and_(known[scope], change.scope_id == name) for scope, name in named.items()]
    newest = select(change.training).where(or_(*covers)).order_by(change.position.desc()).limit(1)
    return case(
        (or_(*covered), newest.correlate(experiences).scalar_subquery()),
        else_=experiences.c.consented,
    )


def _decision(as_of: int) -> ColumnElement[str]:
    """What a person last decided; None where nobody did."""
    review = reviews.c
    reviewed = select(review.experience_id).where(review.position <= as_of)
    newest = (
        select(review.decision)
        .where(review.experience_id == experiences.c.id, review.position <= as_of)
        .order_by(review.position.desc())
        .limit(1)
    )
    found = newest.correlate(experiences).scalar_subquery()
    return case((experiences.c.id.in_(reviewed), found), else_=null())


def _objected(on: str, as_of: int) -> ColumnElement[bool]:
    """Whether somebody said that it, or its whole conversation, was no good."""
    name = {"experience_id": experiences.c.id, "conversation": experiences.c.conversation}[on]
    spoken = feedback.c
    named = select(spoken[on]).where(spoken[on].is_not(None), spoken.position <= as_of, objects())
    return func.coalesce(name.in_(named), false())


def _tier(store: StoreReader, as_of: int, moment: datetime) -> ColumnElement[str]:
    tiers = sources.tiers(store, as_of=as_of, moment=moment)
    named = {tier: [n for n, of in tiers.items() if of == tier] for tier in set(tiers.values())}
    known = [(experiences.c.source.in_(names), literal(tier)) for tier, names in named.items()]
    return case(*known, else_=literal("untrusted"))
