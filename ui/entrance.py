"""The door: every request but those for the login page names somebody who may ask for that path."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from storage import accounts
from storage.engine import Database
from storage.errors import ANY
from storage.models import User
from ui.access_pages import closed_page
from ui.people import NotLoggedIn, logged_in, person_of
from ui.roles import Power, home_of, may, need_of_path, refusal


@dataclass(frozen=True)
class Entrance:
    """Plain ASGI, so that event streams pass untouched.

    Attributes:
        demands_accounts: whether people must log in although nobody has a password yet.
    """

    app: ASGIApp
    db: Database
    demands_accounts: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what may pass."""
        if scope["type"] == "websocket":
            return  # none of our pages opens one
        answer = None
        if scope["type"] == "http" and need_of_path(scope["path"]) != "open":
            answer = await run_in_threadpool(self.refused, Request(scope))
        await (answer or self.app)(scope, receive, send)

    def refused(self, request: Request) -> Response | None:
        """What stands against a request; None to let it pass."""
        need = need_of_path(request.url.path)
        if need == "nobody":
            return PlainTextResponse("Not Found", 404)
        try:
            person = self._person(request)
        except NotLoggedIn as error:
            return _to_login(request, str(error))
        except ANY as error:
            return PlainTextResponse(f"The database cannot be read now: {error}", 503)
        if need == "open" or may(person, need):
            return None
        return _closed(request, person, need)

    def _person(self, request: Request) -> User:
        if not self.demands_accounts or accounts.are_in_force(self.db):
            return person_of(self.db, request)
        if (found := logged_in(self.db, request)) is None:
            raise NotLoggedIn
        return found


def _wants_page(request: Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def _to_login(request: Request, said: str) -> Response:
    if _wants_page(request):
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/login?back={quote(request.url.path + query)}", 303)
    return JSONResponse({"detail": said}, 401, headers={"WWW-Authenticate": "Bearer"})


def _closed(request: Request, person: User, power: Power) -> Response:
    said = refusal(person, power)
    if not _wants_page(request):
        return JSONResponse({"detail": said}, 403)
    if request.url.path == "/":
        return RedirectResponse(home_of(person), 303)
    return closed_page(said, home_of(person))
