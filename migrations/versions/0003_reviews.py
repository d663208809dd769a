"""reviews, refits and draws; what a draw asks of experiences, feedback and assessments

Projections that change are dropped and made anew, empty: `store.engine.migrate` replays the log
afterwards. No table that holds facts is touched.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")
ID = sa.String(160)
CHANGED = ("assessments", "experiences", "feedback")


def upgrade() -> None:
    for name in CHANGED:
        op.drop_table(name)
    _changed()
    _new()


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: the old version cannot read the new log.")


def _position() -> sa.Column[int]:
    return sa.Column("position", POSITION, nullable=False, autoincrement=False)


def _changed() -> None:
    op.create_table(
        "experiences",
        _position(),
        sa.Column("id", ID, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("conversation", ID, nullable=True),
        sa.Column("subject", ID, nullable=True),
        sa.Column("consented", sa.Boolean(), nullable=False),
        sa.Column("withheld", sa.Boolean(), nullable=False),
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
        sa.Column("value", sa.Float(), nullable=True),
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
        sa.Column("doubted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("experience_id", "panel", name=op.f("pk_assessments")),
    )
    op.create_index(op.f("ix_assessments_position"), "assessments", ["position"])


def _new() -> None:
    op.create_table(
        "reviews",
        _position(),
        sa.Column("id", ID, nullable=False),
        sa.Column("experience_id", ID, nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("drawn", sa.String(16), nullable=False),
        sa.Column("harmful", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_experience_id"), "reviews", ["experience_id"])
    op.create_table(
        "refits",
        _position(),
        sa.Column("id", ID, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_refits")),
    )
    op.create_table(
        "draws",
        _position(),
        sa.Column("reviewer", sa.String(128), nullable=False),
        sa.Column("drawn", sa.String(16), nullable=False),
        sa.Column("drawn_at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_draws")),
    )
    op.create_index(op.f("ix_draws_reviewer"), "draws", ["reviewer"])
