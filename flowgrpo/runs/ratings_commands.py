"""Commands that move ratings: export-ratings, import-ratings. Loaded when one of them is called; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowgrpo.runs.ratings_in import import_ratings
from flowgrpo.runs.ratings_out import ALL, export_ratings
from storage.commands import Home, opened
from storage.courtesy import stepping_back

cli = typer.Typer(add_completion=False)
_HOME = Path("data")


@cli.command("export-ratings")
def export_command(
    folder: Annotated[Path, typer.Argument(help="Where to; is not there yet.")],
    form: Annotated[
        str, typer.Option("--format", help="pickapic, hpd, imagereward, trl, raw, or all of them.")
    ] = ALL,
    home: Home = _HOME,
) -> None:
    """Writes all ratings with their images for other programs, without names of people."""
    with stepping_back(), opened(home) as db:
        done = export_ratings(db, folder, form, lambda what: typer.echo(f"{what} ...", err=True))
    facts = done.facts
    typer.echo(
        f"{done.folder}  {facts.pairs.total():,} pairs of {facts.images:,} images: "
        + ", ".join(f"{facts.pairs[split]:,} {split}" for split in ("train", "validation", "test"))
        + f"; {facts.events.total():,} rating events of {len(facts.annotators):,} people. "
        "Fill in the licence in its README.md."
    )
    if facts.missing:
        typer.echo(f"{facts.missing:,} rated groups are not in it: files of their images are gone.")


@cli.command("import-ratings")
def import_command(
    source: Annotated[Path, typer.Argument(help="A folder of export-ratings, or a file of a known format.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Where paths of images start from, if not at the file.")
    ] = None,
    home: Home = _HOME,
) -> None:
    """Takes over ratings with their images: all of a file, or nothing; twice is as good as once."""
    with stepping_back(), opened(home) as db:
        done = import_ratings(
            db, source, images=images, tell=lambda what: typer.echo(f"{what} ...", err=True)
        )
    typer.echo(
        f"{source.name}: {done.groups:,} groups with {done.ratings:,} ratings; new: {done.new.groups:,} "
        f"groups, {done.new.ratings:,} ratings."
    )
    if done.left_out:
        typer.echo(f"{done.left_out:,} ratings of people whose votes do not count there were left out.")
