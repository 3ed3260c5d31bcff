"""`app.py user`: people and their login links, for who is at the machine itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from storage import accounts, login_links, users
from storage.engine import Database
from storage.models import Role, User
from ui.commands import opened
from ui.opening import link_url

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="People, their roles and login links.")
Home = Annotated[Path, typer.Option(envvar="FLOWGRPO_HOME", help="The data folder.")]
Public = Annotated[
    str, typer.Option(envvar="FLOWGRPO_PUBLIC_URL", help="Address under which people reach the studio.")
]
Name = Annotated[str, typer.Argument(help="What they are called in the studio.")]
_HERE = "http://127.0.0.1:7860"
_HOME = Path("data")


def _found(db: Database, name: str) -> User:
    person = accounts.of_name(db, name)
    if person is None:
        known = ", ".join(one.name for one in users.list_users(db))
        raise LookupError(f"there is nobody called {name}: expected one of {known}")
    return person


def _say_link(db: Database, person: User, public_url: str) -> None:
    secret = login_links.make_link(db, person.id, by=users.LOCAL)
    typer.echo(f"{person.name} sets a password here, once, within 48 hours: {link_url(public_url, secret)}")


@cli.command("list")
def list_all(home: Home = _HOME) -> None:
    """Says who is here, with role and whether they can log in."""
    with opened(home) as db:
        for one in users.list_users(db):
            account = "has a password" if one.password_hash else "has no password"
            typer.echo(f"{one.name}: {one.role}, {account}{'' if one.active else ', not active'}")


@cli.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="viewer, annotator, artist, trainer or admin.")] = "annotator",
    public_url: Public = _HERE,
    home: Home = _HOME,
) -> None:
    """Adds somebody, and makes the link at which they set their password."""
    with opened(home) as db:
        person = users.add_user(db, name, cast(Role, role))
        typer.echo(f"{person.name} is here now, as {person.role}.")
        _say_link(db, person, public_url)


@cli.command()
def link(name: Name, public_url: Public = _HERE, home: Home = _HOME) -> None:
    """Makes a link for a first or a new password; earlier links work no more."""
    with opened(home) as db:
        _say_link(db, _found(db, name), public_url)


@cli.command()
def role(
    name: Name,
    to: Annotated[str, typer.Argument(help="viewer, annotator, artist, trainer or admin.")],
    home: Home = _HOME,
) -> None:
    """Changes what somebody may do; it counts at once."""
    with opened(home) as db:
        changed = users.set_role(db, _found(db, name).id, cast(Role, to))
        typer.echo(f"{changed.name} is {changed.role} now.")


@cli.command()
def close(name: Name, home: Home = _HOME) -> None:
    """Keeps somebody out, and logs them out everywhere; what they rated stays."""
    with opened(home) as db:
        typer.echo(f"{users.set_active(db, _found(db, name).id, False).name} does not come in any more.")


@cli.command("open")
def let_in(name: Name, home: Home = _HOME) -> None:
    """Lets somebody in again."""
    with opened(home) as db:
        typer.echo(f"{users.set_active(db, _found(db, name).id, True).name} may come in again.")
