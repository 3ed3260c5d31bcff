"""Who may talk to the server: this machine only, and pages of our own origin only."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, Response

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_BODY = 1_000_000
"""Bytes of a request; nothing that is typed here comes near."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PAGE_POLICY = "frame-ancestors 'none'; base-uri 'self'; form-action 'self'"


def check_host(host: str) -> str:
    """Returns the address to bind.

    Raises:
        ValueError: it is not a loopback address; without accounts nobody else may reach the server.
    """
    if not _is_loopback(host):
        raise ValueError(
            f"Refusing to listen on {host}: without accounts anyone who reaches it could use it. "
            "Use 127.0.0.1 (unset GRADIO_SERVER_NAME), and an SSH tunnel from elsewhere."
        )
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def protect(app: FastAPI) -> None:
    """Adds, from outside in: trusted hosts, strict CORS (which silences Gradio's own), the origin check,
    headers."""
    app.middleware("http")(_guard)
    app.add_middleware(CORSMiddleware, allow_origins=[])
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    refusal = _refusal(request)
    response = PlainTextResponse(refusal[1], refusal[0]) if refusal else await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
    return response


def _refusal(request: Request) -> tuple[int, str] | None:
    """Status and sentence for a request that another site's page made, or that is too large; None to let
    it pass."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host', '')}":
        return 403, "This server takes requests from its own pages only."
    if request.method in _SAFE_METHODS:
        return None
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return 403, "This server takes requests from its own pages only."
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY:
        return 413, f"A request may have {MAX_BODY:,} bytes at most."
    return None
