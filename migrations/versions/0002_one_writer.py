"""one writer: heads and seals, bodies in the log only, consent, sources, erasure, losses

Projections are dropped and made anew, empty: `store.engine.migrate` replays the log afterwards.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op

from store.tables import Body

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")
ID = sa.String(160)
SEAL_EVERY = 1_000
COPY_BATCH = 500
PROJECTIONS = (
    "api_keys",
    "assessments",
    "current_releases",
    "cycles",
    "datasets",
    "evaluations",
    "experiences",
    "feedback",
    "policies",
    "releases",
    "runs",
)


def upgrade() -> None:
    for name in PROJECTIONS:
        op.drop_table(name)
    _events()
    _operational()
    _chain()
    _of_people()
    _of_the_loop()


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: the old version cannot read the new log.")


def _position() -> sa.Column[int]:
    return sa.Column("position", POSITION, nullable=False, autoincrement=False)


def _events() -> None:
    """The log again, without the index on streams and SQLite's own counter, with one on actors."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    op.drop_index("ix_events_stream_position", "events")
    op.rename_table("events", "events_0001")
    if postgresql:
        op.drop_constraint("uq_events_key", "events_0001")
        op.drop_constraint("pk_events", "events_0001")
    op.create_table(
        "events",
        _position(),
        sa.Column("stream", sa.String(200), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(320), nullable=False),
        sa.Column("body", Body(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("recorded_at", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(160), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_events")),
        sa.UniqueConstraint("key", name=op.f("uq_events_key")),
    )
    columns = "position, stream, type, version, key, {body}, digest, recorded_at, actor"
    old = columns.format(body="convert_from(body, 'UTF8')::json" if postgresql else "body")
    op.execute(
        f"INSERT INTO events ({columns.format(body='body')}) "  # noqa: S608  # our own names
        f"SELECT {old} FROM events_0001 ORDER BY position"
    )
    op.drop_table("events_0001")
    op.create_index(op.f("ix_events_actor"), "events", ["actor"])


def _operational() -> None:
    op.create_table(
        "heads",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("chain", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heads")),
    )
    op.create_table(
        "seals",
        _position(),
        sa.Column("chain", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_seals")),
    )
    op.create_table(
        "tombstones",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_tombstones")),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "claims",
        sa.Column("panel", sa.String(64), nullable=False),
        _position(),
        sa.Column("holder", sa.String(160), nullable=False),
        sa.Column("until", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("panel", "position", name=op.f("pk_claims")),
    )
    op.create_index(op.f("ix_claims_holder"), "claims", ["holder"])
    op.create_table(
        "key_uses",
        sa.Column("key_id", ID, nullable=False),
        sa.Column("last_used_at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_uses")),
    )


def _chain() -> None:
    """The chain over what is there, as `store.log.link` makes it from now on."""
    connection = op.get_bind()
    position, chain = 0, "0" * 64
    query = sa.text(
        "SELECT position, type, recorded_at, actor, digest FROM events "
        "WHERE position > :after ORDER BY position LIMIT :batch"
    )
    seal = sa.text("INSERT INTO seals (position, chain) VALUES (:position, :chain)")
    while rows := connection.execute(query, {"after": position, "batch": COPY_BATCH}).all():
        for position, *parts in rows:  # the last one is where the next query begins
            text = "|".join(map(str, (chain, position, *parts)))
            chain = hashlib.sha256(text.encode()).hexdigest()
            if position % SEAL_EVERY == 0:
                connection.execute(seal, {"position": position, "chain": chain})
    connection.execute(
        sa.text("INSERT INTO heads (name, position, chain) VALUES ('log', :position, :chain)"),
        {"position": position, "chain": chain},
    )


def _of_people() -> None:
    op.create_table(
        "experiences",
        _position(),
        sa.Column("id", ID, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("conversation", ID, nullable=True),
        sa.Column("subject", ID, nullable=True),
        sa.Column("consented", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_experiences")),
    )
    op.create_index(op.f("ix_experiences_source"), "experiences", ["source"])
    for name in ("conversation", "subject"):
        given = sa.text(f"{name} IS NOT NULL")
        op.create_index(
            op.f(f"ix_experiences_{name}"),
            "experiences",
            [name],
            sqlite_where=given,
            postgresql_where=given,
        )
    op.create_table(
        "feedback",
        _position(),
        sa.Column("id", ID, nullable=False),
        sa.Column("experience_id", ID, nullable=True),
        sa.Column("conversation", ID, nullable=True),
        sa.Column("subject", ID, nullable=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_feedback")),
    )
    for name in ("experience_id", "conversation", "subject"):
        op.create_index(op.f(f"ix_feedback_{name}"), "feedback", [name])
    op.create_table(
        "assessments",
        sa.Column("experience_id", ID, nullable=False),
        sa.Column("panel", sa.String(64), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("actual_harm", sa.Float(), nullable=True),
        sa.Column("weighted", sa.Float(), nullable=True),
        sa.Column("label", sa.String(16), nullable=True),
        sa.Column("abstained", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("experience_id", "panel", name=op.f("pk_assessments")),
    )
    op.create_index(op.f("ix_assessments_position"), "assessments", ["position"])
    op.create_table(
        "consents",
        _position(),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("scope_id", ID, nullable=False),
        sa.Column("training", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_consents")),
    )
    op.create_index(op.f("ix_consents_scope_id"), "consents", ["scope_id"])
    op.create_table(
        "sources",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sources")),
    )
    op.create_table(
        "erasures",
        _position(),
        sa.Column("id", ID, nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_erasures")),
    )
    op.create_table(
        "losses",
        _position(),
        sa.Column("first", POSITION, nullable=False),
        sa.Column("last", POSITION, nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_losses")),
    )
    op.create_table(
        "tallies",
        sa.Column("name", sa.String(160), nullable=False),
        sa.Column("value", sa.String(160), nullable=False),
        sa.Column("n", POSITION, nullable=False),
        sa.PrimaryKeyConstraint("name", "value", name=op.f("pk_tallies")),
    )


def _of_the_loop() -> None:
    for name in ("datasets", "runs", "evaluations", "releases"):
        op.create_table(
            name,
            sa.Column("id", ID, nullable=False),
            sa.Column("position", POSITION, nullable=False),
            sa.Column("cycle_id", ID, nullable=False),
            sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
            sa.UniqueConstraint("cycle_id", name=op.f(f"uq_{name}_cycle_id")),
        )
    op.create_table(
        "members",
        _position(),
        sa.Column("member", POSITION, nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("position", "member", name=op.f("pk_members")),
    )
    op.create_index(op.f("ix_members_member"), "members", ["member"])
    op.create_table(
        "cycles",
        sa.Column("id", ID, nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cycles")),
    )
    op.create_index(op.f("ix_cycles_state"), "cycles", ["state"])
    op.create_table(
        "current_releases",
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("release_id", ID, nullable=True),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_current_releases")),
    )
    op.create_table(
        "policies", _position(), sa.PrimaryKeyConstraint("position", name=op.f("pk_policies"))
    )
    op.create_table(
        "api_keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
