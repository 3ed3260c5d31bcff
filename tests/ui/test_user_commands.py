"""`app.py user`: how people are let in from the machine itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from storage import accounts, login_links, users
from storage.engine import Database
from ui.user_commands import cli

front = CliRunner()


def said(db: Database, *words: str, code: int = 0) -> str:
    done = front.invoke(cli, [*words, "--home", str(db.home)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def admin(db: Database) -> str:
    return accounts.set_password(db, users.LOCAL, "hash", by=users.LOCAL).name


def test_somebody_new_gets_a_link_that_sets_their_password(db: Database, admin: str) -> None:
    output = said(db, "add", "Ada", "--role", "trainer", "--public-url", "https://studio.example.org/")
    assert "Ada is here now, as trainer." in output
    link = re.search(r"https://studio\.example\.org/setup#([\w-]+)", output)
    assert link is not None
    assert login_links.use_link(db, link[1], "hash").name == "Ada"


def test_the_first_link_is_an_admins(db: Database) -> None:
    assert "must be an admin's" in said(db, "add", "Ada", code=2)
    me = users.get_user(db, users.LOCAL).name
    assert "/setup#" in said(db, "link", me)


def test_a_role_is_changed_and_somebody_kept_out_and_let_in(db: Database, admin: str) -> None:
    said(db, "add", "Ada")
    assert "Ada is artist now." in said(db, "role", "Ada", "artist")
    assert "does not come in" in said(db, "close", "Ada")
    assert "Ada: artist, has no password, not active" in said(db, "list")
    assert "may come in again" in said(db, "open", "Ada")
    assert f"{admin}: admin, has a password" in said(db, "list")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("role", "Nobody", "artist"), "There is nobody called Nobody: expected one of"),
        (("add", "Ada", "--role", "king"), "Expected one of the roles"),
        (("add", " "), "A name has 1 to 60 characters"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    db: Database, admin: str, words: tuple[str, ...], sentence: str
) -> None:
    assert sentence in said(db, *words, code=2)


def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = front.invoke(cli, ["list", "--home", str(tmp_path / "file")])
    assert done.exit_code == 2
    assert "cannot be made" in done.output
