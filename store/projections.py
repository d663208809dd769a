"""What each kind of event does to the tables. Appending and rebuilding both call `project`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, delete, insert

from store import tables
from store.records import (
    ApiKey,
    Assessment,
    Cycle,
    Dataset,
    Evaluation,
    Event,
    Experience,
    Feedback,
    Noun,
    Policy,
    Release,
    TrainingRun,
    to_json,
)


class Activation(Noun, frozen=True, kw_only=True):
    """Which release a target serves from now on; None is the untouched base."""

    target: str
    release_id: str | None
    reason: str


Row = dict[str, Any]


def _experience(e: Experience) -> Row:
    return {
        "id": e.id,
        "source": e.source,
        "conversation": e.conversation,
        "subject": e.subject,
        "consented": e.consent.training,
    }


def _feedback(f: Feedback) -> Row:
    return {"id": f.id, "experience_id": f.experience_id, "kind": f.kind}


def _assessment(a: Assessment) -> Row:
    return {
        "experience_id": a.experience_id,
        "panel": a.panel,
        "actual_harm": a.actual_harm,
        "weighted": a.weighted,
        "label": a.label,
        "abstained": bool(a.abstained),
    }


def _of_cycle(record: Dataset | TrainingRun | Evaluation | Release) -> Row:
    return {"id": record.id, "cycle_id": record.cycle_id}


def _cycle(c: Cycle) -> Row:
    return {"id": c.id, "state": c.state}


def _key(k: ApiKey) -> Row:
    return {"id": k.id, "revoked": k.revoked_at is not None}


class Kind(msgspec.Struct, frozen=True):
    """A kind of event: the noun in its body, the table it projects to, and the columns."""

    noun: type[Noun]
    table: Table
    columns: Callable[[Any], Row]
    replaces: str | None = None
    """Column by which a later event replaces the row of an earlier one."""


KINDS: dict[str, Kind] = {
    "experience.recorded": Kind(Experience, tables.experiences, _experience),
    "feedback.given": Kind(Feedback, tables.feedback, _feedback),
    "experience.assessed": Kind(Assessment, tables.assessments, _assessment),
    "dataset.built": Kind(Dataset, tables.datasets, _of_cycle),
    "run.finished": Kind(TrainingRun, tables.runs, _of_cycle),
    "evaluation.finished": Kind(Evaluation, tables.evaluations, _of_cycle),
    "release.published": Kind(Release, tables.releases, _of_cycle),
    "release.activated": Kind(
        Activation,
        tables.current_releases,
        lambda a: {"target": a.target, "release_id": a.release_id},
        replaces="target",
    ),
    "cycle.started": Kind(Cycle, tables.cycles, _cycle),
    "cycle.finished": Kind(Cycle, tables.cycles, _cycle, replaces="id"),
    "policy.changed": Kind(Policy, tables.policies, lambda _: {}),
    "key.created": Kind(ApiKey, tables.api_keys, _key),
    "key.revoked": Kind(ApiKey, tables.api_keys, _key, replaces="id"),
}


def project(connection: Connection, event: Event) -> None:
    """Applies one event to the tables, in the caller's transaction."""
    kind = KINDS[event.type]
    noun = msgspec.json.decode(event.body, type=kind.noun)
    row = kind.columns(noun) | {"position": event.position}
    if kind.table is not tables.current_releases:
        row["body"] = to_json(noun)
    if kind.replaces is not None:
        column = kind.table.c[kind.replaces]
        connection.execute(delete(kind.table).where(column == row[kind.replaces]))
    connection.execute(insert(kind.table).values(row))
