"""The tables: one log, its projections, and the little operational state beside them.

A projection row holds its noun as JSON (`body`) and, as columns, only what is asked for.
Projections carry the `position` of the event that made them, so that any question can be
asked as of a position. Alembic reads `metadata`.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(160)
TIME = String(32)  # ISO 8601 in UTC: sorts as text, and reads the same in every database

events = Table(
    "events",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("stream", String(200), nullable=False),
    Column("type", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    # The natural identity of the fact: a second append of the same fact finds the first.
    Column("key", String(320), nullable=False, unique=True),
    Column("body", LargeBinary, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("recorded_at", TIME, nullable=False),
    Column("actor", String(160), nullable=False),
    Index(None, "stream", "position"),
    sqlite_autoincrement=True,  # a position is never given twice
)

# --- projections --------------------------------------------------------------------------

experiences = Table(
    "experiences",
    metadata,
    Column("id", ID, primary_key=True),
    Column("position", Integer, nullable=False, index=True),
    Column("source", String(128), nullable=False),
    Column("conversation", ID, nullable=False, index=True),
    Column("subject", ID, index=True),
    Column("consented", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", ID, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("experience_id", ID, nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("body", LargeBinary, nullable=False),
)

assessments = Table(
    "assessments",
    metadata,
    Column("experience_id", ID, primary_key=True),
    Column("panel", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("actual_harm", Float),
    Column("weighted", Float),
    Column("label", String(16)),
    Column("abstained", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
)


def _cycle_record(name: str) -> Table:
    """A table of the records that a cycle leaves: at most one a cycle."""
    return Table(
        name,
        metadata,
        Column("id", ID, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("cycle_id", ID, nullable=False, unique=True),
        Column("body", LargeBinary, nullable=False),
    )


datasets = _cycle_record("datasets")
runs = _cycle_record("runs")
evaluations = _cycle_record("evaluations")
releases = _cycle_record("releases")

cycles = Table(
    "cycles",
    metadata,
    Column("id", ID, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
)

current_releases = Table(
    "current_releases",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("release_id", ID),
)

policies = Table(
    "policies",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", ID, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

PROJECTIONS = (
    experiences,
    feedback,
    assessments,
    datasets,
    runs,
    evaluations,
    releases,
    cycles,
    current_releases,
    policies,
    api_keys,
)

# --- operational state: not facts, not rebuilt ---------------------------------------------

schedules = Table(
    "schedules",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("next_run_at", TIME, nullable=False),
    Column("last_run_at", TIME),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(160), nullable=False),
    Column("token", Integer, nullable=False),
    Column("expires_at", TIME, nullable=False),
)
