"""How a change of schema changes a table, on either database."""

from __future__ import annotations

from typing import Literal

from alembic import op


def rebuilds() -> Literal["always", "never"]:
    """For `batch_alter_table(recreate=...)`: SQLite's tables are made anew, so that their text stays that of
    the models; PostgreSQL alters them where they are, as other tables point to them."""
    return "always" if op.get_context().dialect.name == "sqlite" else "never"
