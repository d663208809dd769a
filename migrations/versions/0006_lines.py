"""lines of releases, each with one in service

Projections that change are dropped and made anew, empty: `store.engine.migrate` replays the log
afterwards. No table that holds facts is touched.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.execute("DELETE FROM cycles")
    op.add_column("cycles", sa.Column("line", sa.String(32), nullable=False))
    op.drop_table("current_releases")
    op.create_table(
        "current_releases",
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("line", sa.String(32), nullable=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("release_id", sa.String(160), nullable=True),
        sa.PrimaryKeyConstraint("target", "line", name=op.f("pk_current_releases")),
    )


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: the old version cannot read the new log.")
