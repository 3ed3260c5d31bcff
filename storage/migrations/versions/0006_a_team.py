"""A team: passwords, sessions, tokens, links, throttles; priority and stalls of runs; pinned checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

from storage.rebuilding import rebuilds

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NEW = ("login_throttle", "login_link", "api_token", "session")


@contextmanager
def rebuilt(table: str) -> Iterator[BatchOperations]:
    """Rebuilds a table, so that SQLite's text of it stays that of the models."""
    with op.batch_alter_table(table, recreate=rebuilds()) as batch:
        yield batch


def moment(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    with rebuilt("user") as batch:
        batch.add_column(sa.Column("password_hash", sa.Text(), nullable=True))
    with rebuilt("checkpoint") as batch:
        batch.add_column(sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    with rebuilt("run") as batch:
        batch.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(moment("stalled_at", nullable=True))
    with rebuilt("run_beat") as batch:
        batch.add_column(moment("progress_at", nullable=True))
    _tables()


def downgrade() -> None:
    for table in NEW:
        op.drop_table(table)
    with rebuilt("run_beat") as batch:
        batch.drop_column("progress_at")
    with rebuilt("run") as batch:
        batch.drop_column("stalled_at")
        batch.drop_column("priority")
    with rebuilt("checkpoint") as batch:
        batch.drop_column("pinned")
    with rebuilt("user") as batch:
        batch.drop_column("password_hash")


def _person(table: str, column: str = "user_id") -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_user")
    return sa.ForeignKeyConstraint([column], ["user.id"], name=name, ondelete="RESTRICT")


def _tables() -> None:
    op.create_table(
        "session",
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        moment("created_at"),
        moment("seen_at"),
        moment("expires_at"),
        sa.Column("browser", sa.Text(), nullable=False),
        _person("session"),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_user_id"), "session", ["user_id"], unique=False)
    op.create_table(
        "api_token",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        moment("created_at"),
        moment("used_at", nullable=True),
        moment("revoked_at", nullable=True),
        _person("api_token"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_api_token_secret_hash")),
    )
    op.create_index(op.f("ix_api_token_user_id"), "api_token", ["user_id"], unique=False)
    op.create_table(
        "login_link",
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        moment("created_at"),
        moment("expires_at"),
        moment("used_at", nullable=True),
        _person("login_link"),
        _person("login_link", "created_by"),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_login_link")),
    )
    op.create_index(op.f("ix_login_link_user_id"), "login_link", ["user_id"], unique=False)
    op.create_table(
        "login_throttle",
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("fails", sa.Integer(), nullable=False),
        moment("since"),
        moment("locked_until", nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_throttle")),
    )
