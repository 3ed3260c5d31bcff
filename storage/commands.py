"""Commands of the front door that keep the data folder; loaded when one of them is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from storage.backup import back_up, plan_of, set_plan
from storage.copies import Backup, backups_of, verified
from storage.damage import age_words
from storage.engine import Database, open_database
from storage.errors import DamagedError, SchemaError
from storage.quotas import Quotas, folder_bytes, quotas_of, reserve_of, set_quotas
from storage.restore import Restored, restore
from storage.sweeping import GRACE_SECONDS, Orphan, orphans, sweep
from storage.types import utc_now

cli = typer.Typer()
Home = Annotated[Path, typer.Option(envvar="FLOWGRPO_HOME", help="The data folder.")]
_HOME = Path("data")
_SHOWN = 5
"""Missing files that are named one by one."""


@contextmanager
def in_sentences() -> Iterator[None]:
    """What goes wrong is a sentence and an exit code of 2."""
    try:
        yield
    except (SchemaError, OSError, LookupError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


@contextmanager
def opened(home: Path) -> Iterator[Database]:
    """A folder that is there already: these commands make none."""
    with in_sentences():
        if not home.is_dir():
            raise LookupError(f"there is no data folder {home}: name it with --home")
        db = open_database(home.resolve())
        try:
            yield db
        finally:
            db.close()


@cli.command()
def backup(home: Home = _HOME) -> None:
    """Makes a backup of the database now, while it is in use."""
    with opened(home) as db:
        made = back_up(db)
    if made is None:
        typer.echo("Nothing changed since the newest backup.")
    else:
        typer.echo(f"{made.path}  ({made.size / 1e6:,.1f} MB)")


@cli.command("restore")
def restore_command(
    home: Home = _HOME,
    source: Annotated[
        Path | None, typer.Option("--from", help="This file instead of the newest good backup.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Show what there is, and change nothing.")] = False,
) -> None:
    """Puts the newest good backup in the place of the database, which is kept aside."""
    with in_sentences():
        if not home.is_dir():
            raise LookupError(f"there is no data folder {home}: name it with --home")
        if show:
            for line in map(_line, backups_of(home)):
                typer.echo(line)
            return
        done = restore(home, source)
    for line in _told(done):
        typer.echo(line)


def _line(one: Backup) -> str:
    age = age_words((utc_now() - one.at).total_seconds())
    try:
        content = verified(one.path)
    except DamagedError as error:
        return f"{one.path.name}  {age} old  damaged: {error}"
    return (
        f"{one.path.name}  {age} old  {content.ratings:,} ratings  {content.images:,} images  "
        f"schema {content.schema}"
    )


def _told(done: Restored) -> Iterator[str]:
    age = age_words((utc_now() - done.at).total_seconds())
    yield (
        f"Restored {done.path.name}, {age} old: {done.content.ratings:,} ratings, "
        f"{done.content.images:,} images. Everybody logs in again."
    )
    if done.aside is not None:
        yield f"What was there is kept in {done.aside}."
    if done.missing:
        named = ", ".join(done.missing[:_SHOWN]) + (" and others" if len(done.missing) > _SHOWN else "")
        yield f"{len(done.missing):,} files that it points to are missing: {named}."


@cli.command()
def clean(
    home: Home = _HOME,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them; without it they are only counted.")
    ] = False,
) -> None:
    """Finds files older than a day that nothing points to: images of no row, leftovers of broken work."""
    with opened(home) as db:
        found = orphans(db)
        for part, size in sorted(_by_part(db.home, found).items()):
            typer.echo(f"{part}  {size / 1e6:,.1f} MB")
        if not yes:
            hours = GRACE_SECONDS // 3600
            typer.echo(f"{len(found):,} files, older than {hours} h, have no row. --yes removes them.")
            return
        count, size = sweep(db, found)
    typer.echo(f"Removed {count:,} files, {size / 1e6:,.1f} MB.")


def _by_part(home: Path, found: list[Orphan]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for one in found:
        sizes[one.path.relative_to(home).parts[0]] += one.size
    return sizes


_GB, _MB = 10**9, 10**6


@cli.command()
def limits(
    home: Home = _HOME,
    folder_gb: Annotated[int | None, typer.Option(min=0, help="Of the whole data folder; 0: none.")] = None,
    reserve_mb: Annotated[int | None, typer.Option(min=0, help="Of the disk, kept for ratings.")] = None,
    waiting: Annotated[
        int | None, typer.Option(min=0, help="Images of one artist in the queue; 0: any.")
    ] = None,
    a_day: Annotated[int | None, typer.Option(min=0, help="Images of one artist a day; 0: any.")] = None,
    backup_minutes: Annotated[float | None, typer.Option(min=0.1, help="Between two backups.")] = None,
    backups_kept: Annotated[
        str | None, typer.Option(help="Of the last ones, of hours and of days, such as 12,24,14.")
    ] = None,
) -> None:
    """Shows the limits of this data folder, and sets those that are named."""
    with opened(home) as db:
        now = quotas_of(db)
        wished = Quotas(
            now.folder_bytes if folder_gb is None else folder_gb * _GB or None,
            now.reserve_bytes if reserve_mb is None else reserve_mb * _MB,
            now.images_waiting if waiting is None else waiting or None,
            now.images_a_day if a_day is None else a_day or None,
        )
        if wished != now:
            set_quotas(db, wished)
        if backup_minutes is not None:
            set_plan(db, minutes=backup_minutes)
        if backups_kept is not None:
            newest, hours, days = _three(backups_kept)
            set_plan(db, newest=newest, hours=hours, days=days)
        for line in _limits(db, wished):
            typer.echo(line)


def _limits(db: Database, quotas: Quotas) -> Iterator[str]:
    folder = "any" if quotas.folder_bytes is None else f"{quotas.folder_bytes / _GB:,.0f} GB"
    yield f"data folder  {folder}, of which {folder_bytes(db.home) / _GB:,.2f} GB are used"
    yield f"kept free    {reserve_of(db) / _MB:,.0f} MB of the disk"
    yield f"artists      {_any(quotas.images_waiting)} images waiting, {_any(quotas.images_a_day)} a day"
    plan = plan_of(db)
    kept = plan.retention
    stay = f"the last {kept.newest}, one of {kept.hours} hours and {kept.days} days"
    yield f"backups      every {plan.minutes:g} minutes when something changed; kept are {stay}"


def _three(typed: str) -> tuple[int, int, int]:
    numbers = [int(part) for part in typed.split(",") if part.strip().isdigit()]
    if len(numbers) != 3 or min(numbers) < 1:
        raise ValueError(f"expected three numbers from 1 on such as 12,24,14, got {typed!r}")
    newest, hours, days = numbers
    return newest, hours, days


def _any(limit: int | None) -> str:
    return "any" if limit is None else f"{limit:,}"
