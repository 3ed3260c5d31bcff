"""`app.py prompts`: prompt sets in and out as files, for who is at the machine itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from storage import prompts
from storage.engine import Database
from storage.models import PromptSet
from ui import prompt_files
from ui.commands import opened
from ui.library.prompt_sets import MAX_SHARE, checked_name, held_before, kept
from ui.library.routes import lines_of
from ui.prompt_files import DEFAULT_SHARE, Kind, Line, Reading
from ui.prompt_writing import written

cli = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Prompt sets as files: .txt, .csv, .jsonl."
)
Home = Annotated[Path, typer.Option(envvar="FLOWGRPO_HOME", help="The data folder.")]
_HOME = Path("data")
_KINDS: dict[str, Kind] = {".txt": "txt", ".csv": "csv", ".jsonl": "jsonl"}


@cli.command("export")
def export_set(
    name: Annotated[str, typer.Argument(help="The set's name.")],
    file: Annotated[Path, typer.Argument(help="Where to; the ending says what: .txt, .csv or .jsonl.")],
    version: Annotated[int | None, typer.Option(help="Of the set; the newest by default.")] = None,
    home: Home = _HOME,
) -> None:
    """Writes a prompt set, with splits and what stands beside the prompts."""
    with opened(home) as db:
        kind = _KINDS.get(file.suffix.lower())
        if kind is None:
            raise ValueError(f"{file.name} does not say what it is: end it with .txt, .csv or .jsonl")
        found = _found(db, name, version)
        lines = lines_of(db, found.id)
        with file.open("x", encoding="utf-8", newline="") as out:  # nothing of somebody's is overwritten
            out.write(written(lines, kind))
        typer.echo(f"{file}: {found.name}, version {found.version}, {len(lines):,} prompts")


def _found(db: Database, name: str, version: int | None) -> PromptSet:
    versions = prompts.versions_of(db, name)
    if not versions:
        known = ", ".join(row.name for row in prompts.list_prompt_sets(db))
        raise LookupError(f"there is no prompt set called {name}: expected one of {known or 'none'}")
    found = versions[0] if version is None else next((v for v in versions if v.version == version), None)
    if found is None:
        raise LookupError(f"{name} has no version {version}: its newest is {versions[0].version}")
    return found


@cli.command("import")
def import_set(
    file: Annotated[Path, typer.Argument(help="A .txt with one prompt a line, a .csv or a .jsonl.")],
    name: Annotated[str, typer.Option(help="Of the set; by default the file's.")] = "",
    share: Annotated[
        int | None, typer.Option(help="Percent to hold out, whatever the list says.", min=0, max=MAX_SHARE)
    ] = None,
    home: Home = _HOME,
) -> None:
    """Keeps a list as a prompt set, or as a new version of one; what it says of splits holds."""
    with opened(home) as db:
        called = checked_name(name or file.stem)
        reading = prompt_files.read(file.read_text(encoding="utf-8"), file.name)
        train, held_out = _divided(db, reading, called, share)
        if not train:
            raise ValueError("all prompts would be held out: leave at least one to train on")
        made = kept(db, called, train, held_out)
        typer.echo(
            f"{made.name}, version {made.version}: {len(train):,} to train on, {len(held_out):,} held out"
        )
        for note in reading.notes:
            typer.echo(note)


def _divided(
    db: Database, reading: Reading, name: str, share: int | None
) -> tuple[Sequence[Line], Sequence[Line]]:
    if share is None and reading.has_splits:
        return prompt_files.as_the_list_says(reading.lines)
    part = (DEFAULT_SHARE if share is None else share) / 100
    return prompt_files.divided(reading.lines, part, held_before(db, name))
