"""Bases say how they are read: what a single file's network predicts, and whose configuration it has."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from storage.rebuilding import rebuilds

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("base_model", recreate=rebuilds()) as batch:
        batch.add_column(sa.Column("options", JSON, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("base_model", recreate=rebuilds()) as batch:
        batch.drop_column("options")
