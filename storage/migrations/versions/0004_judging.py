"""Judging: jobs of the engine, snapshots of votes, fits to them, blind tests; more ways to rate a group."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations
from sqlalchemy.dialects import postgresql

from storage.rebuilding import rebuilds

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
NEW = (
    "blind_vote", "blind_pair", "blind_test", "preference_fit", "vote_snapshot", "job", "score_cache",
    "reward_card", "embedding",
)  # fmt: skip
GROUP_KINDS = "'studio', 'compare', 'sample', 'evaluation', 'demo'"
RATING_KINDS_BEFORE = "'stars', 'best', 'skip', 'undo'"
RATING_KINDS = "'stars', 'best', 'pair', 'rank', 'flags', 'skip', 'undo'"


@contextmanager
def rebuilt(table: str, kinds: str | None = None) -> Iterator[BatchOperations]:
    """Rebuilds a table, so that SQLite's text of it stays that of the models; with other kinds allowed."""
    with op.batch_alter_table(table, recreate=rebuilds()) as batch:
        if kinds is not None:
            name = op.f(f"ck_{table}_kind_known")
            batch.drop_constraint(name, type_="check")
            batch.create_check_constraint(name, f"kind IN ({kinds})")
        yield batch


def upgrade() -> None:
    _knowledge()
    _jobs()
    _fits()
    _blind_tests()
    with rebuilt("rating_event", RATING_KINDS):
        pass
    with rebuilt("image_group", f"{GROUP_KINDS}, 'rollout'") as batch:
        batch.add_column(sa.Column("priority", sa.Double(), nullable=True))
    with rebuilt("assignment") as batch:
        batch.add_column(sa.Column("is_repeat", sa.Boolean(), nullable=False, server_default=sa.false()))
    with rebuilt("assignment") as batch:
        batch.alter_column("is_repeat", server_default=None)
    with rebuilt("evaluation") as batch:
        batch.add_column(sa.Column("job_id", sa.String(length=36), nullable=True))
        batch.create_index(op.f("ix_evaluation_job_id"), ["job_id"], unique=False)
        batch.create_foreign_key(
            op.f("fk_evaluation_job_id_job"), "job", ["job_id"], ["id"], ondelete="RESTRICT"
        )


def downgrade() -> None:
    # Refused by the checks where votes or groups of the new kinds are there.
    with rebuilt("evaluation") as batch:
        batch.drop_index("ix_evaluation_job_id")
        batch.drop_constraint(op.f("fk_evaluation_job_id_job"), type_="foreignkey")
        batch.drop_column("job_id")
    with rebuilt("assignment") as batch:
        batch.drop_column("is_repeat")
    with rebuilt("image_group", GROUP_KINDS) as batch:
        batch.drop_column("priority")
    with rebuilt("rating_event", RATING_KINDS_BEFORE):
        pass
    for table in NEW:
        op.drop_table(table)


def _knowledge() -> None:
    op.create_table(
        "embedding",
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("encoder", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("image_sha256", "encoder", name=op.f("pk_embedding")),
    )
    op.create_table(
        "reward_card",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_reward_card")),
    )
    op.create_table(
        "score_cache",
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("prompt_hash", sa.String(length=64), nullable=False),
        sa.Column("reward", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "value IS NOT NULL OR reason IS NOT NULL", name=op.f("ck_score_cache_value_or_reason")
        ),
        sa.PrimaryKeyConstraint(
            "image_sha256", "prompt_hash", "reward", "version", name=op.f("pk_score_cache")
        ),
    )


def _jobs() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'canceled')", name=op.f("ck_job_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_job_created_by_user"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("seq", name=op.f("uq_job_seq")),
    )
    op.create_index("ix_job_state_seq", "job", ["state", "seq"], unique=False)


def _fits() -> None:
    op.create_table(
        "vote_snapshot",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("events", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vote_snapshot")),
        sa.UniqueConstraint("hash", name=op.f("uq_vote_snapshot_hash")),
    )
    op.create_table(
        "preference_fit",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("snapshot_id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("num_pairs", sa.Integer(), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("baseline", sa.Double(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('weights', 'head')", name=op.f("ck_preference_fit_kind_known")),
        sa.CheckConstraint(
            "state IN ('proposed', 'applied', 'withdrawn')", name=op.f("ck_preference_fit_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"],
            ["vote_snapshot.id"],
            name=op.f("fk_preference_fit_snapshot_id_vote_snapshot"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preference_fit")),
        sa.UniqueConstraint("seq", name=op.f("uq_preference_fit_seq")),
    )


def _blind_tests() -> None:
    op.create_table(
        "blind_test",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("checkpoints", JSON, nullable=False),
        sa.Column("prompts", JSON, nullable=False),
        sa.Column("seeds", JSON, nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revealed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by"], ["user.id"], name=op.f("fk_blind_test_created_by_user"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blind_test")),
        sa.UniqueConstraint("seq", name=op.f("uq_blind_test_seq")),
    )
    op.create_table(
        "blind_pair",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("test_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("first_image_id", sa.String(length=36), nullable=False),
        sa.Column("second_image_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["first_image_id"],
            ["image.id"],
            name=op.f("fk_blind_pair_first_image_id_image"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["second_image_id"],
            ["image.id"],
            name=op.f("fk_blind_pair_second_image_id_image"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["test_id"], ["blind_test.id"], name=op.f("fk_blind_pair_test_id_blind_test"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blind_pair")),
        sa.UniqueConstraint("test_id", "position", name=op.f("uq_blind_pair_test_id_position")),
    )
    op.create_index(op.f("ix_blind_pair_test_id"), "blind_pair", ["test_id"], unique=False)
    op.create_table(
        "blind_vote",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("client_key", sa.String(length=64), nullable=False),
        sa.Column("pair_id", sa.String(length=36), nullable=False),
        sa.Column("annotator_id", sa.String(length=36), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("swapped", sa.Boolean(), nullable=False),
        sa.Column("lead_ms", sa.Integer(), nullable=True),
        sa.Column("supersedes_id", sa.String(length=36), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "outcome <> 'undo' OR supersedes_id IS NOT NULL", name=op.f("ck_blind_vote_undo_target")
        ),
        sa.CheckConstraint(
            "outcome IN ('first', 'second', 'tie', 'bad', 'skip', 'undo')",
            name=op.f("ck_blind_vote_outcome_known"),
        ),
        sa.ForeignKeyConstraint(
            ["annotator_id"], ["user.id"], name=op.f("fk_blind_vote_annotator_id_user"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["pair_id"], ["blind_pair.id"], name=op.f("fk_blind_vote_pair_id_blind_pair"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["supersedes_id"],
            ["blind_vote.id"],
            name=op.f("fk_blind_vote_supersedes_id_blind_vote"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blind_vote")),
        sa.UniqueConstraint("client_key", name=op.f("uq_blind_vote_client_key")),
        sa.UniqueConstraint("seq", name=op.f("uq_blind_vote_seq")),
    )
    op.create_index(
        "ix_blind_vote_pair_id_annotator_id", "blind_vote", ["pair_id", "annotator_id"], unique=False
    )
