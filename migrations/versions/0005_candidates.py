"""what selection asks of experiences and assessments, as columns

Projections that change are dropped and made anew, empty: `store.engine.migrate` replays the log
afterwards. No table that holds facts is touched.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")
COVERED = (
    *("panel", "experience", "actual_harm", "weighted", "label"),
    *("abstained", "doubted", "unfit", "refusal"),
)


def upgrade() -> None:
    op.add_column("experiences", sa.Column("category", sa.String(16), nullable=True))
    op.add_column("experiences", sa.Column("difficulty", sa.String(16), nullable=True))
    op.execute("DELETE FROM assessments")
    op.add_column("assessments", sa.Column("unfit", sa.Boolean(), nullable=False))
    op.add_column("assessments", sa.Column("refusal", sa.Float(), nullable=True))
    op.add_column("assessments", sa.Column("experience", POSITION, nullable=True))
    op.create_index("ix_assessments_panel_experience", "assessments", list(COVERED))


def downgrade() -> None:
    raise NotImplementedError("Restore a backup: the old version cannot read the new log.")
