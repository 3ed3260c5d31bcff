"""Passwords, sessions, links and tokens: who is let in, and from when on no more."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select

from storage import accounts, api_tokens, audit, login_links, sessions, users
from storage.engine import Database
from storage.models import User
from storage.models_access import ApiToken, LoginLink, LoginSession
from storage.types import utc_now


@pytest.fixture
def ada(db: Database) -> User:
    return users.add_user(db, "Ada", "artist")


def admin_with_password(db: Database) -> User:
    return accounts.set_password(db, users.LOCAL, "hash", by=users.LOCAL)


def test_accounts_are_in_force_once_somebody_has_a_password(db: Database) -> None:
    assert not accounts.are_in_force(db)
    admin_with_password(db)
    assert accounts.are_in_force(db)


def test_the_first_account_is_an_admins(db: Database, ada: User) -> None:
    with pytest.raises(ValueError, match="admin"):
        accounts.set_password(db, ada.id, "hash", by=users.LOCAL)
    with pytest.raises(ValueError, match="admin"):
        login_links.make_link(db, ada.id, users.LOCAL)
    admin_with_password(db)
    assert accounts.set_password(db, ada.id, "hash", by=users.LOCAL).password_hash == "hash"


def test_a_session_is_somebodys_until_it_is_closed(db: Database, ada: User) -> None:
    secret = sessions.open_session(db, ada.id, "a browser")
    found = sessions.who(db, secret)
    assert found is not None
    assert found.id == ada.id
    assert [one.browser for one in sessions.sessions_of(db, ada.id)] == ["a browser"]
    sessions.close_session(db, secret)
    assert sessions.who(db, secret) is None
    sessions.close_session(db, secret)


@pytest.mark.parametrize("secret", ["", "x" * 43, "' OR 1=1--", "\ud800", "a\x00b", "0" * 10_000])
def test_no_other_secret_is_anybodys(db: Database, ada: User, secret: str) -> None:
    sessions.open_session(db, ada.id)
    assert sessions.who(db, secret) is None
    assert api_tokens.who(db, secret) is None
    assert login_links.whose(db, secret) is None


def test_a_session_ends_after_twelve_idle_hours_and_after_seven_days(db: Database, ada: User) -> None:
    start = utc_now()
    secret = sessions.open_session(db, ada.id, now=start)
    at = start
    while at < start + sessions.LONGEST - timedelta(hours=11):
        at += timedelta(hours=11)
        assert sessions.who(db, secret, now=at) is not None
    assert sessions.who(db, secret, now=start + sessions.LONGEST) is None
    other = sessions.open_session(db, ada.id, now=start)
    assert sessions.who(db, other, now=start + sessions.IDLE) is None


def test_neither_rows_nor_files_of_the_database_hold_a_secret(db: Database, ada: User) -> None:
    admin_with_password(db)
    made = [
        sessions.open_session(db, ada.id),
        api_tokens.make_token(db, ada.id, "script")[1],
        login_links.make_link(db, ada.id, users.LOCAL),
    ]
    held = b"".join(path.read_bytes() for path in db.home.glob("app.db*"))
    assert not [secret for secret in made if secret.encode() in held]


def test_a_role_and_whether_somebody_is_active_are_read_at_every_request(db: Database, ada: User) -> None:
    secret, token = sessions.open_session(db, ada.id), api_tokens.make_token(db, ada.id, "script")[1]
    with db.write() as session:
        row = session.get(User, ada.id)
        assert row is not None
        row.role = "viewer"
    for found in (sessions.who(db, secret), api_tokens.who(db, token)):
        assert found is not None
        assert found.role == "viewer"
    with db.write() as session:
        row = session.get(User, ada.id)
        assert row is not None
        row.active = False
    assert sessions.who(db, secret) is None
    assert api_tokens.who(db, token) is None


@pytest.mark.parametrize("what", ["role", "active", "password"])
def test_another_role_or_password_ends_every_session(db: Database, ada: User, what: str) -> None:
    admin_with_password(db)
    secret = sessions.open_session(db, ada.id)
    if what == "role":
        users.set_role(db, ada.id, "viewer")
    elif what == "active":
        users.set_active(db, ada.id, False)
        users.set_active(db, ada.id, True)
    else:
        accounts.set_password(db, ada.id, "other", by=ada.id)
    assert sessions.who(db, secret) is None


def test_who_changes_a_password_stays_logged_in_there_alone(db: Database, ada: User) -> None:
    admin_with_password(db)
    here, there = sessions.open_session(db, ada.id), sessions.open_session(db, ada.id)
    accounts.set_password(db, ada.id, "other", by=ada.id, but=here)
    assert sessions.who(db, here) is not None
    assert sessions.who(db, there) is None


def test_one_of_several_browsers_can_be_logged_out(db: Database, ada: User) -> None:
    kept, ended = sessions.open_session(db, ada.id, "kept"), sessions.open_session(db, ada.id, "ended")
    (row,) = [one for one in sessions.sessions_of(db, ada.id) if one.browser == "ended"]
    assert sessions.revoke(db, users.LOCAL, secret_hash=row.secret_hash) == 0
    assert sessions.revoke(db, ada.id, secret_hash=row.secret_hash) == 1
    assert sessions.who(db, kept) is not None
    assert sessions.who(db, ended) is None


def test_a_link_sets_a_password_once_and_the_newest_link_is_the_one_that_works(db: Database) -> None:
    old, new = (login_links.make_link(db, users.LOCAL, users.LOCAL) for _ in range(2))
    assert login_links.whose(db, old) is None
    with pytest.raises(ValueError, match="ask an admin"):
        login_links.use_link(db, old, "hash")
    user = login_links.use_link(db, new, "hash", "Grace")
    assert (user.name, user.password_hash) == ("Grace", "hash")
    with pytest.raises(ValueError, match="ask an admin"):
        login_links.use_link(db, new, "other")


def test_a_link_whose_name_is_taken_is_not_used_up(db: Database, ada: User) -> None:
    secret = login_links.make_link(db, users.LOCAL, users.LOCAL)
    with pytest.raises(ValueError, match="another name"):
        login_links.use_link(db, secret, "hash", "Ada")
    assert login_links.whose(db, secret) is not None


def test_a_link_is_refused_after_two_days(db: Database) -> None:
    secret = login_links.make_link(db, users.LOCAL, users.LOCAL)
    assert login_links.whose(db, secret, now=utc_now() + login_links.VALID) is None


def test_a_token_is_refused_once_it_is_revoked_by_its_owner(db: Database, ada: User) -> None:
    token, secret = api_tokens.make_token(db, ada.id, "  my   script ")
    assert token.name == "my script"
    assert secret.startswith(api_tokens.PREFIX)
    with pytest.raises(LookupError):
        api_tokens.revoke_token(db, token.id, users.LOCAL)
    assert api_tokens.who(db, secret) is not None
    api_tokens.revoke_token(db, token.id, ada.id)
    assert api_tokens.who(db, secret) is None
    assert api_tokens.tokens_of(db, ada.id) == []


def test_a_person_has_a_limit_of_tokens_and_their_names_have_words(db: Database, ada: User) -> None:
    with pytest.raises(ValueError, match="1 to 60"):
        api_tokens.make_token(db, ada.id, " ")
    for number in range(api_tokens.MAX_TOKENS):
        api_tokens.make_token(db, ada.id, f"script {number}")
    with pytest.raises(ValueError, match="revoke one"):
        api_tokens.make_token(db, ada.id, "one more")


def test_two_admins_who_demote_each_other_at_once_leave_one(db: Database) -> None:
    grace = users.add_user(db, "Grace", "admin")
    for one in (users.LOCAL, grace.id):
        accounts.set_password(db, one, "hash", by=one)
    refused: list[str] = []

    def demote(user_id: str, by: str) -> None:
        start.wait()
        try:
            users.set_role(db, user_id, "viewer", by)
        except ValueError as error:
            refused.append(str(error))

    start = threading.Barrier(2)
    pairs = ((users.LOCAL, grace.id), (grace.id, users.LOCAL))
    threads = [threading.Thread(target=demote, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert "last admin" in refused[0]


def test_the_last_admin_is_the_last_who_can_log_in(db: Database) -> None:
    users.add_user(db, "Grace", "admin")
    admin_with_password(db)
    with pytest.raises(ValueError, match="last admin"):
        users.set_active(db, users.LOCAL, False)


def test_what_lets_somebody_in_or_out_stands_in_the_log(db: Database, ada: User) -> None:
    admin_with_password(db)
    login_links.use_link(db, login_links.make_link(db, ada.id, users.LOCAL), "hash")
    sessions.close_session(db, sessions.open_session(db, ada.id))
    token, _ = api_tokens.make_token(db, ada.id, "script")
    api_tokens.revoke_token(db, token.id, ada.id)
    acts = {entry.act for entry in audit.latest(db)}
    assert acts >= {"user.password", "user.link", "login", "logout", "token.make", "token.revoke"}


def test_people_who_are_not_there_are_no_ones_session(db: Database) -> None:
    with pytest.raises(LookupError):
        sessions.open_session(db, "nobody")
    with pytest.raises(LookupError):
        login_links.make_link(db, "nobody", users.LOCAL)
    with db.read() as session:
        for table in (LoginSession, LoginLink, ApiToken):
            assert session.scalars(select(table)).all() == []
