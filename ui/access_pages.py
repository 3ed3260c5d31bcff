"""Plain pages without Gradio: login, the page of a link, one's account, and what is closed to a role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse

from storage.accounts import MAX_NAME
from ui.components import render
from ui.language import spoken, t
from ui.passwords import MIN_LENGTH

ASSETS = Path(__file__).parent / "assets"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
}


def style() -> str:
    """The tokens of the studio and the look of these pages."""
    return (ASSETS / "css" / "0_tokens.css").read_text() + (ASSETS / "access" / "access.css").read_text()


def script() -> str:
    """Shade and link."""
    return (ASSETS / "access" / "access.js").read_text()


def _page(template: str, status: int = 200, *, wide: bool = False, **values: Any) -> HTMLResponse:
    title = t(f"access.{template}")
    known = {"title": title, "language": spoken(), "wide": wide, "shortest": MIN_LENGTH}
    html = render(f"access/{template}.html", **known | values)
    return HTMLResponse(html, status, headers=_HEADERS)


def login_page(problem: str = "", name: str = "", back: str = "/", status: int = 200) -> HTMLResponse:
    """Name and password, and why not."""
    return _page("login", status, problem=problem, name=name, back=back)


def setup_page(
    problem: str = "", link: str = "", name: str = "", status: int = 200, *, is_over: bool = False
) -> HTMLResponse:
    """A first or a new password; `is_over`: with this link nothing can be set any more."""
    asked: dict[str, Any] = {"link": link, "name": name, "max_name": MAX_NAME, "is_over": is_over}
    return _page("setup", status, problem=problem, **asked)


def closed_page(problem: str, home: str) -> HTMLResponse:
    """What a role may not look at, and where its work is."""
    return _page("closed", 403, problem=problem, home=home)


def account_page(status: int = 200, **values: Any) -> HTMLResponse:
    """One's password, browsers and tokens."""
    return _page("account", status, wide=True, **values)
