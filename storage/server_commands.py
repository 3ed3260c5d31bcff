"""The command that moves a studio to a database server; loaded when it is called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import typer

from storage.commands import Home, in_sentences
from storage.postgres import URL_VARIABLE
from storage.to_postgres import Moved, to_postgres

cli = typer.Typer(add_completion=False)
_HOME = Path("data")


@cli.command("to-postgres")
def to_postgres_command(home: Home = _HOME) -> None:
    """Copies the rows of a stopped studio to the empty PostgreSQL database that DATABASE_URL names."""
    with in_sentences():
        done = to_postgres(home, os.environ.get(URL_VARIABLE, ""))
    for line in _told(done):
        typer.echo(line)


def _told(done: Moved) -> Iterator[str]:
    for table, count in done.rows.items():
        if count:
            yield f"{count:>12,}  {table}"
    yield f"Moved {sum(done.rows.values()):,} rows. Each table was read back from the server and is the same."
    yield f"Now start with {URL_VARIABLE} as it is and the same data folder: its files stay where they are."
    yield f"Without {URL_VARIABLE} the studio would go on with {done.file}, which gets nothing new now."
