"""Alembic's entry: storage.migrate hands over a connection with foreign keys off and a transaction open."""

from typing import Any

from alembic import context

from storage.failpoints import failpoint
from storage.models import Record


def _stepped(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:
    del ctx, heads, run_args
    failpoint(f"migrate.step_{step.up_revision_id}")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Record.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    on_version_apply=_stepped,
)
context.run_migrations()
