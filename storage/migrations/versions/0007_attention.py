"""How many people are at a group, and where it stands among those that as many are at; an index of both."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

from storage.rebuilding import rebuilds

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WORTH = "CASE WHEN kind = 'rollout' THEN -1.0 ELSE coalesce(priority, 1e9) END"
OFFER = ["state", "attention", "worth", "seq", "kind", "overlap", "id"]
AT_IT = """
UPDATE image_group SET attention = (
    SELECT count(*) FROM assignment
    WHERE assignment.group_id = image_group.id AND NOT assignment.is_repeat
      AND (assignment.outcome = 'rated' OR assignment.done_at IS NULL)
)
"""


@contextmanager
def groups() -> Iterator[BatchOperations]:
    """Rebuilds the table, so that SQLite's text of it stays that of the models."""
    with op.batch_alter_table("image_group", recreate=rebuilds()) as batch:
        yield batch


def upgrade() -> None:
    with groups() as batch:
        batch.add_column(sa.Column("attention", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("worth", sa.Double(), sa.Computed(WORTH, persisted=True), nullable=False))
        batch.create_index("ix_image_group_offer", OFFER, unique=False)
        batch.create_index("ix_image_group_phase_state", ["phase", "state"], unique=False)
    op.execute(AT_IT)


def downgrade() -> None:
    with groups() as batch:
        batch.drop_index("ix_image_group_phase_state")
        batch.drop_index("ix_image_group_offer")
        batch.drop_column("worth")
        batch.drop_column("attention")
