"""What the commands of this package share: the data folder, and sentences in the place of errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from storage.engine import Database, open_database
from storage.errors import ANY, SchemaError
from ui.forms import Refused
from ui.services import shown

_WRONG: tuple[type[Exception], ...] = (LookupError, ValueError, Refused, SchemaError, OSError, *ANY)


@contextmanager
def opened(home: Path) -> Iterator[Database]:
    """The data folder; what goes wrong is one sentence, and exit code 2."""
    try:
        db = open_database(home.resolve())
        try:
            yield db
        finally:
            db.close()
    except _WRONG as error:
        typer.echo(shown(error), err=True)
        raise typer.Exit(2) from error
