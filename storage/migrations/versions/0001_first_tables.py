"""The first tables, and the person who needs no login on this machine."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "app_meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_app_meta")),
    )
    op.create_table(
        "base_model",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_model")),
        sa.UniqueConstraint("name", name=op.f("uq_base_model_name")),
    )
    op.create_table(
        "prompt_set",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt_set")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_prompt_set_name_version")),
    )
    op.create_table(
        "user",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "role IN ('viewer', 'annotator', 'artist', 'trainer', 'admin')", name=op.f("ck_user_role_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("name", name=op.f("uq_user_name")),
    )
    op.create_table(
        "worker_beat",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('starting', 'idle', 'generating', 'scoring', 'stopped')",
            name=op.f("ck_worker_beat_state_known"),
        ),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_worker_beat")),
    )
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("base_model_id", sa.String(length=36), nullable=False),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
        sa.Column("run_id", sa.String(length=36), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("update", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("votes", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('committed', 'bad', 'pruned')", name=op.f("ck_checkpoint_state_known")),
        sa.ForeignKeyConstraint(
            ["base_model_id"],
            ["base_model.id"],
            name=op.f("fk_checkpoint_base_model_id_base_model"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["checkpoint.id"],
            name=op.f("fk_checkpoint_parent_id_checkpoint"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoint")),
        sa.UniqueConstraint("run_id", "update", name=op.f("uq_checkpoint_run_id_update")),
    )
    op.create_table(
        "prompt",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("prompt_set_id", sa.String(length=36), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.String(length=64), nullable=False),
        sa.Column("attributes", JSON, nullable=True),
        sa.Column("split", sa.String(length=16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.CheckConstraint("split IN ('train', 'held_out')", name=op.f("ck_prompt_split_known")),
        sa.ForeignKeyConstraint(
            ["prompt_set_id"],
            ["prompt_set.id"],
            name=op.f("fk_prompt_prompt_set_id_prompt_set"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt")),
        sa.UniqueConstraint(
            "prompt_set_id", "split", "position", name=op.f("uq_prompt_prompt_set_id_split_position")
        ),
    )
    op.create_index(op.f("ix_prompt_text_hash"), "prompt", ["text_hash"], unique=False)
    op.create_table(
        "evaluation",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("checkpoint_id", sa.String(length=36), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("extractor", sa.Text(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"],
            ["checkpoint.id"],
            name=op.f("fk_evaluation_checkpoint_id_checkpoint"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation")),
    )
    op.create_index(op.f("ix_evaluation_checkpoint_id"), "evaluation", ["checkpoint_id"], unique=False)
    op.create_table(
        "run",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.String(length=36), nullable=False),
        sa.Column("parent_checkpoint_id", sa.String(length=36), nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("config_hash", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stop_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'starting', 'running', 'stopping', 'stopped', "
            "'paused', 'completed', 'failed', 'lost', 'canceled')",
            name=op.f("ck_run_state_known"),
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["user.id"], name=op.f("fk_run_owner_id_user"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["parent_checkpoint_id"],
            ["checkpoint.id"],
            name=op.f("fk_run_parent_checkpoint_id_checkpoint"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("number", name=op.f("uq_run_number")),
    )
    op.create_index("ix_run_state_number", "run", ["state", "number"], unique=False)
    op.create_table(
        "image_group",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("prompt_hash", sa.String(length=64), nullable=False),
        sa.Column("checkpoint_id", sa.String(length=36), nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("seeds", JSON, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=True),
        sa.Column("update", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('studio', 'compare', 'sample', 'evaluation', 'demo')",
            name=op.f("ck_image_group_kind_known"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'canceled')",
            name=op.f("ck_image_group_state_known"),
        ),
        sa.CheckConstraint("length(prompt) <= 2000", name=op.f("ck_image_group_prompt_length")),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"],
            ["checkpoint.id"],
            name=op.f("fk_image_group_checkpoint_id_checkpoint"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_image_group_created_by_user"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_image_group_run_id_run"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_group")),
        sa.UniqueConstraint("seq", name=op.f("uq_image_group_seq")),
    )
    op.create_index(
        "ix_image_group_checkpoint_id_prompt_hash",
        "image_group",
        ["checkpoint_id", "prompt_hash"],
        unique=False,
    )
    op.create_index("ix_image_group_kind_seq", "image_group", ["kind", "seq"], unique=False)
    op.create_index(op.f("ix_image_group_run_id"), "image_group", ["run_id"], unique=False)
    op.create_index("ix_image_group_state_seq", "image_group", ["state", "seq"], unique=False)
    op.create_table(
        "metric",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("update", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_metric_run_id_run"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("run_id", "update", "name", name=op.f("pk_metric")),
    )
    op.create_table(
        "run_attempt",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("pid_start", LONG, nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_run_attempt_run_id_run"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("run_id", "attempt", name=op.f("pk_run_attempt")),
    )
    op.create_table(
        "run_beat",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update", sa.Integer(), nullable=False),
        sa.Column("num_updates", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("seconds_per_update", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_run_beat_run_id_run"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_beat")),
    )
    op.create_table(
        "run_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_run_event_run_id_run"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_event")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_run_event_run_id"), "run_event", ["run_id"], unique=False)
    op.create_table(
        "assignment",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("annotator_id", sa.String(length=36), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('rated', 'skipped', 'expired')", name=op.f("ck_assignment_outcome_known")
        ),
        sa.CheckConstraint(
            "(done_at IS NULL) = (outcome IS NULL)", name=op.f("ck_assignment_done_with_outcome")
        ),
        sa.ForeignKeyConstraint(
            ["annotator_id"], ["user.id"], name=op.f("fk_assignment_annotator_id_user"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["image_group.id"],
            name=op.f("fk_assignment_group_id_image_group"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignment")),
    )
    op.create_index(
        "ix_assignment_annotator_id_outcome", "assignment", ["annotator_id", "outcome"], unique=False
    )
    op.create_index(op.f("ix_assignment_group_id"), "assignment", ["group_id"], unique=False)
    op.create_index(
        "uq_assignment_active",
        "assignment",
        ["group_id", "annotator_id"],
        unique=True,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.create_table(
        "image",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("seed", LONG, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["image_group.id"], name=op.f("fk_image_group_id_image_group"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
        sa.UniqueConstraint("group_id", "index", name=op.f("uq_image_group_id_index")),
    )
    op.create_index(op.f("ix_image_sha256"), "image", ["sha256"], unique=False)
    op.create_table(
        "rating_event",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("client_key", sa.String(length=64), nullable=False),
        sa.Column("act_id", sa.String(length=36), nullable=False),
        sa.Column("annotator_id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=True),
        sa.Column("value", sa.Integer(), nullable=True),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("lead_ms", sa.Integer(), nullable=True),
        sa.Column("supersedes_id", sa.String(length=36), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind <> 'best' OR image_id IS NOT NULL", name=op.f("ck_rating_event_best_image")),
        sa.CheckConstraint(
            "kind <> 'stars' OR (image_id IS NOT NULL AND value BETWEEN 1 AND 5)",
            name=op.f("ck_rating_event_stars_range"),
        ),
        sa.CheckConstraint(
            "kind <> 'undo' OR supersedes_id IS NOT NULL", name=op.f("ck_rating_event_undo_target")
        ),
        sa.CheckConstraint(
            "kind IN ('stars', 'best', 'skip', 'undo')", name=op.f("ck_rating_event_kind_known")
        ),
        sa.ForeignKeyConstraint(
            ["annotator_id"], ["user.id"], name=op.f("fk_rating_event_annotator_id_user"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["image_group.id"],
            name=op.f("fk_rating_event_group_id_image_group"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_rating_event_image_id_image"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["supersedes_id"],
            ["rating_event.id"],
            name=op.f("fk_rating_event_supersedes_id_rating_event"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rating_event")),
        sa.UniqueConstraint("client_key", name=op.f("uq_rating_event_client_key")),
        sa.UniqueConstraint("seq", name=op.f("uq_rating_event_seq")),
    )
    op.create_index(op.f("ix_rating_event_act_id"), "rating_event", ["act_id"], unique=False)
    op.create_index("ix_rating_event_annotator_id_seq", "rating_event", ["annotator_id", "seq"], unique=False)
    op.create_index(
        "ix_rating_event_group_id_annotator_id", "rating_event", ["group_id", "annotator_id"], unique=False
    )
    op.create_index(op.f("ix_rating_event_image_id"), "rating_event", ["image_id"], unique=False)
    op.create_table(
        "score",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("reward", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("value IS NOT NULL OR reason IS NOT NULL", name=op.f("ck_score_value_or_reason")),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_score_image_id_image"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("image_id", "reward", "version", name=op.f("pk_score")),
    )
    op.bulk_insert(
        sa.table(
            "user",
            sa.column("id", sa.String),
            sa.column("name", sa.Text),
            sa.column("role", sa.String),
            sa.column("active", sa.Boolean),
            sa.column("created_at", sa.DateTime(timezone=True)),
        ),
        [
            {
                "id": "local",
                "name": "local",
                "role": "admin",
                "active": True,
                "created_at": datetime.now(UTC).replace(tzinfo=None),
            }
        ],
    )


def downgrade() -> None:
    op.drop_table("score")
    op.drop_index(op.f("ix_rating_event_image_id"), table_name="rating_event")
    op.drop_index("ix_rating_event_group_id_annotator_id", table_name="rating_event")
    op.drop_index("ix_rating_event_annotator_id_seq", table_name="rating_event")
    op.drop_index(op.f("ix_rating_event_act_id"), table_name="rating_event")
    op.drop_table("rating_event")
    op.drop_index(op.f("ix_image_sha256"), table_name="image")
    op.drop_table("image")
    op.drop_index(
        "uq_assignment_active",
        table_name="assignment",
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.drop_index(op.f("ix_assignment_group_id"), table_name="assignment")
    op.drop_index("ix_assignment_annotator_id_outcome", table_name="assignment")
    op.drop_table("assignment")
    op.drop_index(op.f("ix_run_event_run_id"), table_name="run_event")
    op.drop_table("run_event")
    op.drop_table("run_beat")
    op.drop_table("run_attempt")
    op.drop_table("metric")
    op.drop_index("ix_image_group_state_seq", table_name="image_group")
    op.drop_index(op.f("ix_image_group_run_id"), table_name="image_group")
    op.drop_index("ix_image_group_kind_seq", table_name="image_group")
    op.drop_index("ix_image_group_checkpoint_id_prompt_hash", table_name="image_group")
    op.drop_table("image_group")
    op.drop_index("ix_run_state_number", table_name="run")
    op.drop_table("run")
    op.drop_index(op.f("ix_evaluation_checkpoint_id"), table_name="evaluation")
    op.drop_table("evaluation")
    op.drop_index(op.f("ix_prompt_text_hash"), table_name="prompt")
    op.drop_table("prompt")
    op.drop_table("checkpoint")
    op.drop_table("worker_beat")
    op.drop_table("user")
    op.drop_table("prompt_set")
    op.drop_table("base_model")
    op.drop_table("app_meta")
