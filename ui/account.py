"""One's own account: password, browsers that are logged in, tokens of scripts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from storage import accounts, api_tokens, sessions, throttle
from storage.engine import Database
from storage.models import User
from storage.secrecy import hash_of
from storage.types import utc_now
from ui.access_pages import account_page
from ui.forms import Refused
from ui.language import t
from ui.login import logged_in_here
from ui.passwords import hashed, is_right
from ui.people import person_of, session_secret
from ui.roles import home_of
from ui.services import SHOWN_ERRORS, shown
from ui.team.common import ago


def account_routes(db: Database) -> APIRouter:
    """GET /account, and POST /account/password, /account/sessions, /account/tokens, /account/tokens/revoke.

    Each answers with the page as it then is; a refusal is a sentence on it.
    """
    router = APIRouter()

    @router.get("/account")
    def look(request: Request) -> Response:
        return _page(db, request)

    @router.post("/account/password")
    def password(
        request: Request, old: str = Form(""), password: str = Form(""), again: str = Form("")
    ) -> Response:
        me = person_of(db, request)
        try:
            _change_password(db, request, me, old, password, again)
        except SHOWN_ERRORS as error:
            return _page(db, request, 400, problem=shown(error))
        answer = _page(db, request, me=me, said=t("access.password_set"))
        return answer if me.password_hash else logged_in_here(db, request, answer, me)

    @router.post("/account/sessions")
    def end_session(request: Request, session: str = Form("")) -> Response:
        me = person_of(db, request)
        sessions.revoke(db, me.id, secret_hash=session or "none")
        return _page(db, request, me=me, said=t("access.session_ended"))

    @router.post("/account/tokens")
    def make_token(request: Request, name: str = Form("")) -> Response:
        try:
            token, secret = api_tokens.make_token(db, person_of(db, request).id, name)
        except SHOWN_ERRORS as error:
            return _page(db, request, 400, problem=shown(error))
        return _page(db, request, said=t("access.token_made", name=token.name), secret=secret)

    @router.post("/account/tokens/revoke")
    def revoke_token(request: Request, token: str = Form("")) -> Response:
        me = person_of(db, request)  # before the token that a script may have sent itself works no more
        try:
            api_tokens.revoke_token(db, token, me.id)
        except SHOWN_ERRORS as error:
            return _page(db, request, 400, me=me, problem=shown(error))
        return _page(db, request, me=me, said=t("access.token_revoked"))

    return router


def _change_password(db: Database, request: Request, me: User, old: str, password: str, again: str) -> None:
    """Raises `Refused` with what is wrong."""
    keys = throttle.keys_of(f"password of {me.id}", me.id)
    if throttle.take(db, keys):
        raise Refused("There were too many wrong guesses: wait some minutes, then try again.")
    if me.password_hash is not None and not is_right(me.password_hash, old):
        raise Refused(t("access.wrong_old"))
    throttle.was_right(db, keys)
    if password != again:
        raise Refused(t("access.differ"))
    accounts.set_password(db, me.id, hashed(password), by=me.id, but=session_secret(request))


def _page(
    db: Database, request: Request, status: int = 200, *, me: User | None = None, **said: str
) -> Response:
    me, now = me or person_of(db, request), utc_now()
    here = hash_of(session_secret(request))
    browsers = [
        {
            "hash": one.secret_hash,
            "name": _browser_words(one.browser),
            "seen": ago(one.seen_at, now),
            "is_here": one.secret_hash == here,
        }
        for one in sessions.sessions_of(db, me.id)
    ]
    values: dict[str, Any] = {
        "me": me,
        "home": home_of(me),
        "has_account": accounts.are_in_force(db),
        "may_begin": me.role == "admin",
        "sessions": browsers,
        "tokens": [_token(one.id, one.name, ago(one.used_at, now), one.used_at is None)
                   for one in api_tokens.tokens_of(db, me.id)],
        "max_token": api_tokens.MAX_NAME,
        "problem": "",
        "said": "",
        "secret": "",
    }  # fmt: skip
    return account_page(status, **values | said)


def _token(token_id: str, name: str, then: str, is_new: bool) -> dict[str, str]:
    used = t("access.never_used") if is_new else t("access.used", ago=then)
    return {"id": token_id, "name": name, "used": used}


def _browser_words(agent: str) -> str:
    """What a browser calls itself, in two words where it is a known one."""
    names = (("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
    systems = ("Windows", "Android", "iPhone", "iPad", "Mac OS", "Linux")
    name = next((name for mark, name in names if mark in agent), "")
    system = next((one for one in systems if one in agent), "")
    return " · ".join(filter(None, (name, system))) or agent[:60] or "?"
