"""Logging in and out, and the page of a link that sets a password."""

from __future__ import annotations

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from storage import accounts, login_links, sessions, throttle
from storage.engine import Database
from storage.models import User
from ui.access_pages import login_page, script, setup_page, style
from ui.components import span
from ui.language import t
from ui.passwords import hashed, is_right
from ui.people import SECURE_SESSION, SESSION, own_path, session_secret
from ui.roles import home_of
from ui.services import SHOWN_ERRORS, shown

_MAX_NAME = 200
"""Characters of a name that are looked at at all."""


def login_routes(db: Database) -> APIRouter:
    """GET and POST /login, POST /logout, GET and POST /setup, and the style of these pages."""
    router = APIRouter()

    @router.get("/access.css")
    def css() -> Response:
        return Response(style(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})

    @router.get("/access.js")
    def js() -> Response:
        return Response(script(), media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})

    @router.get("/login")
    def ask(back: str = "/") -> HTMLResponse:
        problem = "" if accounts.are_in_force(db) else t("access.no_account_yet")
        return login_page(problem, back=own_path(back))

    @router.post("/login")
    def log_in(
        request: Request, name: str = Form(""), password: str = Form(""), back: str = Form("/")
    ) -> Response:
        name = name[:_MAX_NAME]
        keys = throttle.keys_of(name, request.client.host if request.client else "")
        if waits := throttle.take(db, keys):
            return _wait(waits, name, back)
        person = _of_name(db, name)
        kept = person.password_hash if person and person.active else None
        if not is_right(kept, password) or person is None:
            return login_page(t("access.wrong"), name, own_path(back), 401)
        throttle.was_right(db, keys)
        home = own_path(back)
        answer = RedirectResponse(home_of(person) if home == "/" else home, 303)
        return logged_in_here(db, request, answer, person)

    @router.post("/logout")
    def log_out(request: Request) -> Response:
        if secret := session_secret(request):
            sessions.close_session(db, secret)
        answer = RedirectResponse("/login", 303)
        for name in (SESSION, SECURE_SESSION):
            answer.delete_cookie(name, secure=name == SECURE_SESSION, httponly=True, samesite="lax")
        return answer

    _add_setup(router, db)
    return router


def _add_setup(router: APIRouter, db: Database) -> None:
    @router.get("/setup")
    def ask() -> HTMLResponse:
        return setup_page()

    @router.post("/setup")
    def set_up(
        request: Request,
        link: str = Form(""),
        name: str = Form(""),
        password: str = Form(""),
        again: str = Form(""),
    ) -> Response:
        if login_links.whose(db, link) is None:
            return setup_page(t("access.link_used"), status=400, is_over=True)
        if password != again:
            return setup_page(t("access.differ"), link, name, 400)
        try:
            person = login_links.use_link(db, link, hashed(password), name.strip())
        except SHOWN_ERRORS as error:
            return setup_page(shown(error), link, name, 400)
        return logged_in_here(db, request, RedirectResponse(home_of(person), 303), person)


def logged_in_here(db: Database, request: Request, answer: Response, person: User) -> Response:
    """The answer with a new session's cookie; one that the browser had before is ended."""
    if old := session_secret(request):
        sessions.close_session(db, old)
    secret = sessions.open_session(db, person.id, request.headers.get("user-agent", ""))
    is_secure = request.url.scheme == "https"
    answer.set_cookie(
        SECURE_SESSION if is_secure else SESSION,
        secret,
        max_age=int(sessions.LONGEST.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=is_secure,
        path="/",
    )
    return answer


def _of_name(db: Database, name: str) -> User | None:
    """Nobody for a name that no row could hold."""
    try:
        return accounts.of_name(db, name)
    except ValueError:
        return None


def _wait(seconds: float, name: str, back: str) -> Response:
    answer = login_page(t("access.wait", span=span(max(1.0, seconds))), name, own_path(back), 429)
    answer.headers["Retry-After"] = str(int(seconds) + 1)
    return answer
