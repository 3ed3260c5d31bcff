"""Events of a run name what they are about: the alarms of a pause, the update to go back to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from storage.rebuilding import rebuilds

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


# Rebuilt, so that SQLite's text of the table stays that of the models; the ids go on counting up.
COUNTING = {"sqlite_autoincrement": True}


def upgrade() -> None:
    with op.batch_alter_table("run_event", recreate=rebuilds(), table_kwargs=COUNTING) as batch:
        batch.add_column(sa.Column("payload", JSON, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("run_event", recreate=rebuilds(), table_kwargs=COUNTING) as batch:
        batch.drop_column("payload")
