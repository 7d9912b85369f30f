"""seeds: trials repeated with other seeds, and the end of a study on test seeds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.add_column(sa.Column("replica_of", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("test", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("seeds_measured", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("spread", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("spared", sa.Text(), nullable=True))
        batch_op.create_index(
            "ix_trials_study_id_replica_of_seed", ["study_id", "replica_of", "seed"], unique=True
        )
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("finals", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.drop_column("finals")
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.drop_index("ix_trials_study_id_replica_of_seed")
        for name in ("spared", "spread", "seeds_measured", "test", "replica_of"):
            batch_op.drop_column(name)
