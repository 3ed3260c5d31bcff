"""Alembic's entry: storage.migrate hands over a connection with foreign keys off and a transaction open."""

from alembic import context

from storage.models import Record

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Record.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
