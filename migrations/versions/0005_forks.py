"""forks: where trials come from, their schedules and seeds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.add_column(sa.Column("parent", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("forked_at", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("schedule", sa.JSON(none_as_null=True), nullable=True))
        batch_op.add_column(sa.Column("seed", sa.BigInteger(), nullable=True))
        batch_op.create_index("ix_trials_study_id_parent", ["study_id", "parent"])


def downgrade() -> None:
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.drop_index("ix_trials_study_id_parent")
        for name in ("seed", "schedule", "forked_at", "parent"):
            batch_op.drop_column(name)
