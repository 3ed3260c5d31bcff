"""Who sits at this browser: whoever its session or token names, where people log in; else whom it says.

On this machine, without accounts, nobody logs in: who it is is said, and a cookie remembers.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Form, HTTPException
from fastapi.responses import RedirectResponse
from starlette.requests import HTTPConnection

from storage import accounts, api_tokens, sessions, users
from storage.engine import Database
from storage.models import User
from ui.roles import home_of, may_open

COOKIE = "studio-person"
SESSION = "studio-session"
SECURE_SESSION = f"__Host-{SESSION}"
"""The name over https: no other host of the same domain can set such a cookie."""
_KNOWN = "studio.person"
"""Where a request remembers whose it is: door, guard and handler ask one after the other."""
_A_YEAR = 365 * 24 * 3600


class NotLoggedIn(PermissionError):
    """People log in here, and this request names nobody."""

    def __init__(self) -> None:
        super().__init__("Log in first: open the studio's page in a browser, or send a token.")


def person_of(db: Database, request: Any) -> User:
    """The person of a request (FastAPI's or Gradio's), as their row said when it came in.

    Args:
        request: anything with `cookies` and `headers`; None for a call without a browser.

    Raises:
        NotLoggedIn: people log in here, and nobody did.
    """
    asked = getattr(request, "request", request)  # Gradio's request holds that of the server
    scope = asked.scope if isinstance(asked, HTTPConnection) else {}
    known = scope.get(_KNOWN)
    if isinstance(known, User):
        return known
    found = logged_in(db, request) if accounts.are_in_force(db) else _said(db, request)
    if found is None:
        raise NotLoggedIn
    scope[_KNOWN] = found
    return found


def logged_in(db: Database, request: Any) -> User | None:
    """Whose token or session a request carries; a token goes first, since a script sent it on purpose."""
    if request is None:
        return None
    kind, _, token = (request.headers.get("authorization") or "").partition(" ")
    if kind.lower() == "bearer" and token.startswith(api_tokens.PREFIX):
        return api_tokens.who(db, token)
    secret = session_secret(request)
    return sessions.who(db, secret) if secret else None


def session_secret(request: Any) -> str:
    """What the browser's cookie says; empty where it has none.

    Over https only the name counts that no other host of the same domain can have set.
    """
    asked = getattr(request, "request", request)
    is_secure = isinstance(asked, HTTPConnection) and asked.url.scheme == "https"
    return str(request.cookies.get(SECURE_SESSION if is_secure else SESSION) or "")


def _said(db: Database, request: Any) -> User:
    """Whom this browser named; "local" where it named none, or one who may not come in."""
    named = request.cookies.get(COOKIE) if request is not None else None
    try:
        found = users.get_user(db, named or users.LOCAL)
    except LookupError:
        found = users.get_user(db, users.LOCAL)
    return found if found.active else users.get_user(db, users.LOCAL)


def people_routes(db: Database) -> APIRouter:
    """POST /person: this browser is that person from now on; 404 with a sentence for somebody unknown, 403
    where people log in."""
    router = APIRouter()

    @router.post("/person")
    def become(user: str = Form(), back: str = Form("/")) -> RedirectResponse:
        if accounts.are_in_force(db):
            raise HTTPException(403, "People log in here: log out, then let the other one log in.")
        try:
            found = users.get_user(db, user)
        except LookupError as error:
            raise HTTPException(404, "There is nobody with this id: reload the page.") from error
        if not found.active:
            raise HTTPException(403, f"{found.name} is not active any more: ask an admin.")
        page = own_path(back)
        is_theirs = may_open(found, page.partition("?")[0])
        answer = RedirectResponse(page if is_theirs else home_of(found), 303)
        answer.set_cookie(COOKIE, found.id, max_age=_A_YEAR, httponly=True, samesite="lax")
        return answer

    return router


def own_path(back: str) -> str:
    """A path of ours; never another site's."""
    is_ours = back.startswith("/") and not back.startswith(("//", "/\\"))
    return back if is_ours and back.isprintable() else "/"
