"""What selection asks of every experience, as columns: all but its words.

A database answers for all of them many times as fast as what was said can be read.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Select,
    Subquery,
    Table,
    and_,
    case,
    func,
    literal,
    or_,
    select,
)

from store import sources
from store.events import StoreReader
from store.reviews import newest_decisions, objects
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
    of_one, of_conversation, of_person = (
        _newest_consent(scope, as_of) for scope in ("experience", "conversation", "subject")
    )
    decided = _newest_decision(as_of)
    on_one = _objected("experience_id", as_of)
    on_conversation = _objected("conversation", as_of)
    table = experiences.c
    return (
        select(
            *(table.position, table.id, table.source, table.conversation, table.subject),
            *(table.category, table.difficulty, table.withheld),
            _consented(of_one, of_conversation, of_person).label("consented"),
            _tier(store, as_of, moment).label("tier"),
            decided.c.decision,
            or_(on_one.c.name.is_not(None), on_conversation.c.name.is_not(None)).label("objected"),
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
        .outerjoin(of_one, of_one.c.scope_id == table.id)
        .outerjoin(of_conversation, of_conversation.c.scope_id == table.conversation)
        .outerjoin(of_person, of_person.c.scope_id == table.subject)
        .outerjoin(decided, decided.c.experience_id == table.id)
        .outerjoin(on_one, on_one.c.name == table.id)
        .outerjoin(on_conversation, on_conversation.c.name == table.conversation)
        .subquery("candidates")
    )


def _newest_consent(scope: str, as_of: int) -> Subquery:
    known = and_(consents.c.scope == scope, consents.c.position <= as_of)
    newest = select(func.max(consents.c.position)).where(known).group_by(consents.c.scope_id)
    return _at(consents, newest, f"of_{scope}")


def _consented(*changes: Subquery) -> ColumnElement[bool]:
    """Consent as it stands: the newest change that covers the experience, else the door's."""
    at = [func.coalesce(change.c.position, 0) for change in changes]
    newest = [
        (and_(at[i] > 0, *(at[i] >= other for other in at)), change.c.training)
        for i, change in enumerate(changes)
    ]
    return case(*newest, else_=experiences.c.consented)


def _newest_decision(as_of: int) -> Subquery:
    return _at(reviews, newest_decisions(as_of), "decided")


def _at(table: Table, positions: Select[tuple[int]], name: str) -> Subquery:
    """The rows of a table at these positions.

    A join, because SQLite would look an IN up anew for every experience and every position.
    """
    wanted = positions.subquery(f"{name}_at")
    return select(table).join(wanted, wanted.c[0] == table.c.position).subquery(name)


def _objected(on: str, as_of: int) -> Subquery:
    """The ids, as `name`, of what somebody said was no good."""
    table = feedback.c
    known = and_(table[on].is_not(None), table.position <= as_of)
    named = select(table[on].label("name")).where(known, objects()).distinct()
    return named.subquery(f"objected_{on}")


def _tier(store: StoreReader, as_of: int, moment: datetime) -> ColumnElement[str]:
    tiers = sources.tiers(store, as_of=as_of, moment=moment)
    known = [(experiences.c.source == name, literal(tier)) for name, tier in tiers.items()]
    return case(*known, else_=literal("untrusted"))
