"""The studio: settings, boards, check items, saved grids, datasets, exports, the audit log, and what runs are
asked for, follow and took their prompts from."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations
from sqlalchemy.dialects import postgresql

from storage.rebuilding import rebuilds

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
NEW = ("audit", "board_image", "board", "check_item", "saved_grid", "dataset", "export", "setting")
MOMENTS = ("pause_requested_at", "save_requested_at", "sample_requested_at")


@contextmanager
def rebuilt(table: str) -> Iterator[BatchOperations]:
    """Rebuilds a table, so that SQLite's text of it stays that of the models."""
    with op.batch_alter_table(table, recreate=rebuilds()) as batch:
        yield batch


def upgrade() -> None:
    _tables()
    with rebuilt("user") as batch:
        batch.add_column(sa.Column("preferences", JSON, nullable=True))
    with rebuilt("checkpoint") as batch:
        batch.add_column(sa.Column("origin", sa.Text(), nullable=True))
        batch.add_column(sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=True))
    with rebuilt("image_group") as batch:
        batch.add_column(sa.Column("overlap", sa.Integer(), nullable=True))
    with rebuilt("run") as batch:
        for name in MOMENTS:
            batch.add_column(sa.Column(name, sa.DateTime(timezone=True), nullable=True))
        for name, target in (("prompt_set_id", "prompt_set"), ("follows_id", "run")):
            batch.add_column(sa.Column(name, sa.String(length=36), nullable=True))
            batch.create_foreign_key(
                op.f(f"fk_run_{name}_{target}"), target, [name], ["id"], ondelete="RESTRICT"
            )
    op.create_index("ix_score_reward_value", "score", ["reward", "value"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_score_reward_value", "score")
    with rebuilt("run") as batch:
        for name, target in (("follows_id", "run"), ("prompt_set_id", "prompt_set")):
            batch.drop_constraint(op.f(f"fk_run_{name}_{target}"), type_="foreignkey")
            batch.drop_column(name)
        for name in MOMENTS:
            batch.drop_column(name)
    with rebuilt("image_group") as batch:
        batch.drop_column("overlap")
    with rebuilt("checkpoint") as batch:
        batch.drop_column("promoted_at")
        batch.drop_column("origin")
    with rebuilt("user") as batch:
        batch.drop_column("preferences")
    for table in NEW:
        op.drop_table(table)


def _tables() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user.id"], name=op.f("fk_audit_user_id_user"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)

    op.create_table(
        "board",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_board_created_by_user"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_board")),
        sa.UniqueConstraint("name", name=op.f("uq_board_name")),
    )
    op.create_table(
        "dataset",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("num_images", sa.Integer(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_dataset_created_by_user"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
        sa.UniqueConstraint("name", name=op.f("uq_dataset_name")),
    )
    op.create_table(
        "saved_grid",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_saved_grid_created_by_user"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_grid")),
        sa.UniqueConstraint("seq", name=op.f("uq_saved_grid_seq")),
    )
    op.create_table(
        "setting",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", JSON, nullable=False),
        sa.Column("changed_by", sa.String(length=36), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["changed_by"], ["user.id"], name=op.f("fk_setting_changed_by_user"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_setting")),
    )
    op.create_table(
        "export",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("checkpoint_id", sa.String(length=36), nullable=False),
        sa.Column("layout", sa.String(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"],
            ["checkpoint.id"],
            name=op.f("fk_export_checkpoint_id_checkpoint"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_export_created_by_user"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export")),
    )
    op.create_index("ix_export_checkpoint_id", "export", ["checkpoint_id"], unique=False)

    op.create_table(
        "check_item",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("accepted", JSON, nullable=False),
        sa.Column("is_practice", sa.Boolean(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_check_item_created_by_user"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["image_group.id"],
            name=op.f("fk_check_item_group_id_image_group"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("group_id", name=op.f("pk_check_item")),
    )
    op.create_table(
        "board_image",
        sa.Column("board_id", sa.String(length=36), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["board_id"], ["board.id"], name=op.f("fk_board_image_board_id_board"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_board_image_image_id_image"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("board_id", "image_id", name=op.f("pk_board_image")),
    )
    op.create_index("ix_board_image_image_id", "board_image", ["image_id"], unique=False)
