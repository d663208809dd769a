"""The tables: one log, its projections, and the little operational state beside them.

The words lie in one place only, the log's `body`. A projection holds, as columns, what is asked
for, and the `position` of the event that made the row, by which the body is found and any
question can be asked as of a position. Alembic reads `metadata`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine, UserDefinedType

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(160)
TIME = String(32)  # ISO 8601 in UTC: sorts as text, and reads the same in every database
POSITION = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column of type INTEGER."""


class _JsonText(UserDefinedType[bytes]):
    """PostgreSQL's `json`: checked, and kept byte for byte, which `jsonb` does not do."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """How it is written in SQL."""
        return "JSON"


class Body(TypeDecorator[bytes]):
    """A noun's canonical JSON as bytes: a blob in SQLite, `json` in PostgreSQL.

    Digests are over the bytes, so PostgreSQL's `jsonb`, which rewrites numbers and order, will
    not do; a query may cast to it.
    """

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column's type in this database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(_JsonText())
        return dialect.type_descriptor(LargeBinary())

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> Any:
        """The value as the driver takes it: text for `json`."""
        return value.decode() if value is not None and dialect.name == "postgresql" else value


events = Table(
    "events",
    metadata,
    Column("position", POSITION, primary_key=True, autoincrement=False),
    Column("stream", String(200), nullable=False),
    Column("type", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    # The natural identity of the fact: a second append of the same fact finds the first.
    Column("key", String(320), nullable=False, unique=True),
    Column("body", Body, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("recorded_at", TIME, nullable=False),
    Column("actor", String(160), nullable=False, index=True),  # what a stolen key sent
)

seals = Table(
    "seals",
    metadata,
    # Every so many events the chain of their digests is written down: what lies before a seal
    # cannot change unnoticed.
    Column("position", POSITION, primary_key=True, autoincrement=False),
    Column("chain", String(64), nullable=False),
)

heads = Table(
    "heads",
    metadata,
    # One row: the last position that was given and the chain up to it. Writers of several
    # processes queue at this row, so positions become visible in their order.
    Column("name", String(16), primary_key=True),
    Column("position", POSITION, nullable=False),
    Column("chain", String(64), nullable=False),
)

# --- projections --------------------------------------------------------------------------


def _position() -> Column[int]:
    return Column("position", POSITION, primary_key=True, autoincrement=False)


experiences = Table(
    "experiences",
    metadata,
    _position(),
    Column("id", ID, nullable=False),  # found through the log's key
    Column("source", String(128), nullable=False, index=True),
    Column("conversation", ID),
    Column("subject", ID),
    Column("consented", Boolean, nullable=False),
    Column("withheld", Boolean, nullable=False),  # its words were not stored
    Column("category", String(16)),
    Column("difficulty", String(16)),
    Column("model", String(128)),  # who answered
)
Index(
    "ix_experiences_model_position",
    experiences.c.model,
    experiences.c.position,
    sqlite_where=experiences.c.model.is_not(None),
    postgresql_where=experiences.c.model.is_not(None),
)
for _name in ("conversation", "subject"):
    _given = experiences.c[_name].is_not(None)
    Index(None, experiences.c[_name], sqlite_where=_given, postgresql_where=_given)

feedback = Table(
    "feedback",
    metadata,
    _position(),
    Column("id", ID, nullable=False),
    Column("experience_id", ID, index=True),
    Column("conversation", ID, index=True),
    Column("subject", ID, index=True),
    Column("kind", String(16), nullable=False),
    Column("value", Float),
)

assessments = Table(
    "assessments",
    metadata,
    Column("experience_id", ID, primary_key=True),
    Column("panel", String(64), primary_key=True),
    Column("position", POSITION, nullable=False, index=True),
    Column("actual_harm", Float),
    Column("weighted", Float),
    Column("label", String(16)),
    Column("abstained", Boolean, nullable=False),
    Column("doubted", Boolean, nullable=False),
    Column("unfit", Boolean, nullable=False),
    Column("refusal", Float),
    Column("experience", POSITION),  # its position: none in what the first versions recorded
)
# All that selection asks of a million, in the order in which they were recorded.
Index(
    "ix_assessments_panel_experience",
    *(
        assessments.c[name]
        for name in (
            *("panel", "experience", "actual_harm", "weighted", "label"),
            *("abstained", "doubted", "unfit", "refusal"),
        )
    ),
)

reviews = Table(
    "reviews",
    metadata,
    _position(),
    Column("id", ID, nullable=False),
    Column("experience_id", ID, nullable=False, index=True),
    Column("decision", String(16), nullable=False),
    Column("drawn", String(16), nullable=False),
    Column("harmful", Boolean, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    # Each time a tag was put on or taken off; erasure needs the earlier ones, too.
    _position(),
    Column("experience_id", ID, nullable=False, index=True),
    Column("tag", String(64), nullable=False, index=True),
    Column("is_on", Boolean, nullable=False),
)

consents = Table(
    "consents",
    metadata,
    _position(),
    Column("scope", String(16), nullable=False),
    Column("scope_id", ID, nullable=False, index=True),
    Column("training", Boolean, nullable=False),
)

sources = Table(
    "sources",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("position", POSITION, nullable=False),
    Column("tier", String(16), nullable=False),
)

erasures = Table("erasures", metadata, _position(), Column("id", ID, nullable=False))

losses = Table(
    "losses",
    metadata,
    # Positions, from first to last, whose events are known to be gone.
    _position(),
    Column("first", POSITION, nullable=False),
    Column("last", POSITION, nullable=False),
)


def _cycle_record(name: str) -> Table:
    """A table of the records that a cycle leaves: at most one a cycle."""
    return Table(
        name,
        metadata,
        Column("id", ID, primary_key=True),
        Column("position", POSITION, nullable=False),
        Column("cycle_id", ID, nullable=False, unique=True),
    )


datasets = _cycle_record("datasets")
runs = _cycle_record("runs")
evaluations = _cycle_record("evaluations")
releases = _cycle_record("releases")

members = Table(
    "members",
    metadata,
    # Which experiences a dataset holds, or taught a refit, both by position: the lineage that
    # erasure follows.
    Column("position", POSITION, primary_key=True, autoincrement=False),
    Column("member", POSITION, primary_key=True, autoincrement=False, index=True),
)

refits = Table(
    "refits",
    metadata,
    _position(),
    Column("id", ID, nullable=False),
    Column("outcome", String(16), nullable=False),
)

cycles = Table(
    "cycles",
    metadata,
    Column("id", ID, primary_key=True),
    Column("position", POSITION, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("line", String(32), nullable=False),
)

current_releases = Table(
    "current_releases",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("line", String(32), primary_key=True),
    Column("position", POSITION, nullable=False),
    Column("release_id", ID),
)

canaries = Table(
    "canaries",
    metadata,
    Column("id", ID, primary_key=True),
    Column("position", POSITION, nullable=False),
    Column("release_id", ID, nullable=False),
    Column("target", String(64), nullable=False),
    Column("line", String(32), nullable=False),
    Column("state", String(16), nullable=False),
)

taints = Table(
    "taints",
    metadata,
    _position(),
    Column("release_id", ID, nullable=False, index=True),
)

policies = Table("policies", metadata, _position())

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", ID, primary_key=True),
    Column("position", POSITION, nullable=False),
    Column("revoked", Boolean, nullable=False),
)

tallies = Table(
    "tallies",
    metadata,
    # How many rows the tables above hold of each source, kind and label: counting a million
    # takes a database half a second, and somebody waits for it.
    Column("name", String(160), primary_key=True),
    Column("value", String(160), primary_key=True),
    Column("n", POSITION, nullable=False),
)

PROJECTIONS = (
    experiences,
    feedback,
    assessments,
    reviews,
    tags,
    consents,
    sources,
    erasures,
    losses,
    datasets,
    members,
    runs,
    evaluations,
    releases,
    refits,
    cycles,
    current_releases,
    canaries,
    taints,
    policies,
    api_keys,
    tallies,
)

# --- operational state: not facts, not rebuilt ---------------------------------------------

tombstones = Table(
    "tombstones",
    metadata,
    # Salted hashes of the keys of erased facts: the same id is not taken again.
    Column("hash", String(64), primary_key=True),
)

secrets = Table(
    "secrets",
    metadata,
    # Random values that were drawn once: the salt of the tombstones, the tokens' signing key.
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
)

claims = Table(
    "claims",
    metadata,
    # Who is assessing which experiences, and until when that is believed.
    Column("panel", String(64), primary_key=True),
    Column("position", POSITION, primary_key=True, autoincrement=False),
    Column("holder", String(160), nullable=False, index=True),
    Column("until", TIME, nullable=False),
)

draws = Table(
    "draws",
    metadata,
    # Which experience was handed to whom to look at, until it is reviewed. By position, without
    # an id: erasure only takes the row.
    _position(),
    Column("reviewer", String(128), nullable=False, index=True),
    Column("drawn", String(16), nullable=False),
    Column("drawn_at", TIME, nullable=False),
)

key_uses = Table(
    "key_uses",
    metadata,
    Column("key_id", ID, primary_key=True),
    Column("last_used_at", TIME, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("next_run_at", TIME, nullable=False),
    Column("last_run_at", TIME),
)

cursors = Table(
    "cursors",
    metadata,
    # Up to where in the log somebody has read who acts on what stands there.
    Column("name", String(64), primary_key=True),
    Column("position", POSITION, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(160), nullable=False),
    Column("token", Integer, nullable=False),
    Column("expires_at", TIME, nullable=False),
)
