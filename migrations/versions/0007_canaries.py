"""who answered, releases on trial, releases that are tainted, and who read the log how far

Projections that change are dropped and made anew, empty: `store.engine.migrate` replays the log
afterwards. No table that holds facts is touched.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("experiences", sa.Column("model", sa.String(128), nullable=True))
    given = sa.text("model IS NOT NULL")
    op.create_index(
        "ix_experiences_model_position",
        "experiences",
        ["model", "position"],
        sqlite_where=given,
        postgresql_where=given,
    )
    op.create_table(
        "canaries",
        sa.Column("id", sa.String(160), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("release_id", sa.String(160), nullable=False),
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("line", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_canaries")),
    )
    op.create_table(
        "taints",
        sa.Column("position", POSITION, autoincrement=False, nullable=False),
        sa.Column("release_id", sa.String(160), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_taints")),
    )
    op.create_index(op.f("ix_taints_release_id"), "taints", ["release_id"])
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: the old version cannot read the new log.")
