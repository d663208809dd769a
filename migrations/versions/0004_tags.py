"""tags

A new projection alone: nothing that was there changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")
ID = sa.String(160)


def upgrade() -> None:
    op.create_table(
        "tags",
        sa.Column("position", POSITION, nullable=False, autoincrement=False),
        sa.Column("experience_id", ID, nullable=False),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_tags")),
    )
    for name in ("experience_id", "tag"):
        op.create_index(op.f(f"ix_tags_{name}"), "tags", [name])


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: the old version cannot read the new log.")
