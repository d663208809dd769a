"""What each kind of event does to the tables. Appending and rebuilding both call `project`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Table, delete, select, text

from store import bulk, tables
from store.records import (
    MAIN,
    ApiKey,
    Assessment,
    ConsentChange,
    Cycle,
    Dataset,
    Erasure,
    Evaluation,
    Experience,
    Feedback,
    Line,
    Loss,
    Noun,
    Override,
    PolicyChange,
    Refit,
    Release,
    ReleaseStep,
    Review,
    Source,
    Tagging,
    TrainingRun,
)
from store.redaction import is_withheld

DIGEST_BATCH = 1_000
ALONG = 20_000
"""So far before an assessment its experience may stand where both were recorded in one request:
what it says itself is asked first."""


class Activation(Noun, frozen=True, kw_only=True):
    """Which release of a line a target serves from now on; None is the untouched base."""

    target: str
    release_id: str | None
    reason: str
    line: Line = MAIN
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """How much of the line's traffic the release answers; its predecessor answers the rest."""


Row = dict[str, Any]


class Projected(NamedTuple):
    """One event as projections see it."""

    type: str
    noun: Any
    position: int


def _experience(e: Experience) -> Row:
    return {
        "id": e.id,
        "source": e.source,
        "conversation": e.conversation_id,
        "subject": e.subject,
        "consented": e.consent.training,
        "withheld": is_withheld(e),
        "category": e.context.category,
        "difficulty": e.context.difficulty,
    }


def _feedback(f: Feedback) -> Row:
    return {
        "id": f.id,
        "experience_id": f.experience_id,
        "conversation": f.conversation_id,
        "subject": f.subject,
        "kind": f.kind,
        "value": f.value,
    }


def _assessment(a: Assessment) -> Row:
    return {
        "experience_id": a.experience_id,
        "panel": a.panel,
        "actual_harm": a.actual_harm,
        "weighted": a.weighted,
        "label": a.label,
        "abstained": bool(a.abstained),
        "doubted": bool(a.doubts),
        "unfit": bool(a.unfit),
        "refusal": a.refusal,
        "experience": a.position,
    }


def _review(r: Review) -> Row:
    return {
        "id": r.id,
        "experience_id": r.experience_id,
        "decision": r.decision,
        "drawn": r.drawn,
        "harmful": r.harmful,
    }


def _tagging(t: Tagging) -> Row:
    return {"experience_id": t.experience_id, "tag": t.tag, "is_on": t.on}


def _refit(r: Refit) -> Row:
    return {"id": r.id, "outcome": r.outcome}


def _consent(c: ConsentChange) -> Row:
    return {"scope": c.scope, "scope_id": c.scope_id, "training": c.training}


def _of_cycle(record: Dataset | TrainingRun | Evaluation | Release) -> Row:
    return {"id": record.id, "cycle_id": record.cycle_id}


def _cycle(c: Cycle) -> Row:
    return {"id": c.id, "state": c.state, "line": c.line}


def _key(k: ApiKey) -> Row:
    return {"id": k.id, "revoked": k.revoked_at is not None}


class Kind(msgspec.Struct, frozen=True):
    """A kind of event: the noun in its body, the table it projects to, and the columns."""

    noun: type[Noun]
    table: Table | None
    """None: nothing is asked about it that another record does not answer."""
    columns: Callable[[Any], Row]
    replaces: tuple[str, ...] = ()
    """Columns by which a later event replaces the row of an earlier one."""
    members: Callable[[Any], Sequence[int]] | None = None
    """Positions of the experiences that the noun holds, or that taught it."""


KINDS: dict[str, Kind] = {
    "experience.recorded": Kind(Experience, tables.experiences, _experience),
    "feedback.given": Kind(Feedback, tables.feedback, _feedback),
    "experience.assessed": Kind(Assessment, tables.assessments, _assessment),
    "experience.reviewed": Kind(Review, tables.reviews, _review),
    "experience.tagged": Kind(Tagging, tables.tags, _tagging),
    "consent.changed": Kind(ConsentChange, tables.consents, _consent),
    "experience.erased": Kind(Erasure, tables.erasures, lambda e: {"id": e.id}),
    "loss.accepted": Kind(Loss, tables.losses, lambda x: {"first": x.first, "last": x.last}),
    "source.changed": Kind(
        Source, tables.sources, lambda s: {"name": s.name, "tier": s.tier}, replaces=("name",)
    ),
    "dataset.built": Kind(Dataset, tables.datasets, _of_cycle, members=lambda d: d.members),
    "run.finished": Kind(TrainingRun, tables.runs, _of_cycle),
    "evaluation.finished": Kind(Evaluation, tables.evaluations, _of_cycle),
    "evaluation.overridden": Kind(Override, None, lambda _: {}),
    "release.published": Kind(Release, tables.releases, _of_cycle),
    "release.step": Kind(ReleaseStep, None, lambda _: {}),
    "release.activated": Kind(
        Activation,
        tables.current_releases,
        lambda a: {"target": a.target, "line": a.line, "release_id": a.release_id},
        replaces=("target", "line"),
    ),
    "heads.refitted": Kind(Refit, tables.refits, _refit, members=lambda r: r.members),
    "cycle.started": Kind(Cycle, tables.cycles, _cycle),
    "cycle.finished": Kind(Cycle, tables.cycles, _cycle, replaces=("id",)),
    "policy.changed": Kind(PolicyChange, tables.policies, lambda _: {}),
    "key.created": Kind(ApiKey, tables.api_keys, _key),
    "key.changed": Kind(ApiKey, tables.api_keys, _key, replaces=("id",)),
    "key.revoked": Kind(ApiKey, tables.api_keys, _key, replaces=("id",)),
}


Tally = tuple[str, str]
"""What is counted, and which of it."""
TALLIED: dict[Table, Callable[[Mapping[Any, Any]], Tally]] = {
    tables.experiences: lambda row: ("source", row["source"]),
    tables.feedback: lambda row: ("feedback", row["kind"]),
    tables.reviews: lambda row: ("review", row["drawn"]),
    tables.assessments: lambda row: (label_of(row["panel"]), row["label"] or ""),
}
OF_PEOPLE = (
    tables.experiences,
    tables.feedback,
    tables.assessments,
    tables.reviews,
    tables.tags,
    tables.consents,
)
"""What erasure takes rows from."""
COUNT = text(
    "INSERT INTO tallies (name, value, n) VALUES (:name, :value, :n)"
    " ON CONFLICT (name, value) DO UPDATE SET n = tallies.n + excluded.n"
)


def label_of(panel: str) -> str:
    """The name under which a panel's labels are counted."""
    return f"label/{panel}"


def project(connection: Connection, events: Iterable[Projected]) -> None:
    """Applies events in their order, in the caller's transaction, with few statements."""
    pending: dict[Table, list[Row]] = {}
    for event in events:
        kind = KINDS[event.type]
        if kind.table is None:
            continue
        row = kind.columns(event.noun)
        row["position"] = event.position
        if kind.replaces:
            _flush(connection, pending)
            same = [kind.table.c[name] == row[name] for name in kind.replaces]
            connection.execute(delete(kind.table).where(*same))
        pending.setdefault(kind.table, []).append(row)
        if kind.members is not None:
            pending.setdefault(tables.members, []).extend(
                {"position": event.position, "member": member}
                for member in kind.members(event.noun)
            )
    _flush(connection, pending)


def withdraw(connection: Connection, positions: Sequence[int]) -> None:
    """Takes out the rows that these events of people's words made."""
    counts: Counter[Tally] = Counter()
    for table in OF_PEOPLE:
        of_them = table.c.position.in_(positions)
        if table in TALLIED:
            rows = connection.execute(select(table).where(of_them)).mappings()
            counts.subtract(map(TALLIED[table], rows))
        connection.execute(delete(table).where(of_them))
    _count(connection, counts)
    connection.execute(delete(tables.tallies).where(tables.tallies.c.n == 0))


def _flush(connection: Connection, pending: dict[Table, list[Row]]) -> None:
    counts: Counter[Tally] = Counter()
    # Experiences first: what the panel said of withheld words is recorded along with them.
    for table, rows in sorted(pending.items(), key=lambda item: item[0] is not tables.experiences):
        if table is tables.assessments:
            _place(connection, rows)
        if rows:
            if table in TALLIED:
                counts.update(map(TALLIED[table], rows))
            names = table.columns.keys()
            bulk.add(connection, table, [tuple(map(row.get, names)) for row in rows])
    pending.clear()
    _count(connection, counts)


def _place(connection: Connection, rows: Sequence[Row]) -> None:
    """Fills in where the experience stands, for assessments that do not say."""
    silent = [row for row in rows if row["experience"] is None]
    if not silent:
        return
    positions = [row["position"] for row in silent]
    table = tables.experiences.c
    query = select(table.id, table.position).where(
        table.position.between(min(positions) - ALONG, max(positions))
    )
    at = {row.id: row.position for row in connection.execute(query)}
    for row in silent:
        row["experience"] = at.get(row["experience_id"])


def _count(connection: Connection, counts: Mapping[Tally, int]) -> None:
    rows = [{"name": name, "value": value, "n": n} for (name, value), n in counts.items()]
    if rows:
        connection.execute(COUNT, rows)


def digest(connection: Connection, table: Table) -> str:
    """The sum of the SHA-256 of a projection's rows, modulo 2**256.

    A sum does not depend on the order of the rows, and databases sort text differently.
    """
    total = 0
    rows = connection.execute(select(table), execution_options={"yield_per": DIGEST_BATCH})
    for row in rows:
        sha = hashlib.sha256(repr(tuple(row)).encode()).digest()
        total += int.from_bytes(sha, "big")
    return f"{total % 2**256:064x}"
