"""Commands that move a whole project: archive, unarchive. Loaded when one of them is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from storage.archive import archive
from storage.commands import Home, in_sentences, opened
from storage.courtesy import stepping_back
from storage.unarchive import unarchive

cli = typer.Typer()
_HOME = Path("data")
_SHOWN = 5


@cli.command("archive")
def archive_command(
    file: Annotated[Path, typer.Argument(help="Where to; ends in .zip, and is not there yet.")],
    home: Home = _HOME,
    without_images: Annotated[
        bool, typer.Option("--without-images", help="Rows and checkpoints, without the folder blobs.")
    ] = False,
) -> None:
    """Writes the whole project as one file, without passwords and tokens."""
    with stepping_back(), opened(home) as db:
        done = archive(db, file, with_images=not without_images)
    typer.echo(
        f"{done.path}  {done.size / 1e6:,.1f} MB, {done.files:,} files: {done.ratings:,} ratings, "
        f"{done.images:,} images{' (rows alone)' if without_images else ''}."
    )
    _tell_missing(done.missing)


@cli.command("unarchive")
def unarchive_command(
    file: Annotated[Path, typer.Argument(help="What `archive` wrote.")],
    home: Annotated[Path, typer.Option("--home", help="The new data folder: empty, or not there yet.")],
) -> None:
    """Makes a data folder of an archive: all of it, checked, or nothing."""
    with in_sentences():
        done = unarchive(file, home)
    typer.echo(
        f"{done.home}  {done.files:,} files: {done.content.ratings:,} ratings, "
        f"{done.content.images:,} images. Nobody has a password in it."
    )
    _tell_missing(done.missing)


def _tell_missing(missing: Sequence[str]) -> None:
    if missing:
        named = ", ".join(missing[:_SHOWN]) + (" and others" if len(missing) > _SHOWN else "")
        typer.echo(f"{len(missing):,} files that rows point to are not in it: {named}.")
