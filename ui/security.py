"""Who may talk to the server: this machine, those who reach its public address, and pages of our own only."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.uploads import LIMITS

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_BODY = 1_000_000
"""Bytes of a request; nothing that is typed here comes near."""
LARGER = {path: limits.size for path, limits in LIMITS.items()}
"""Paths that take files, to the bytes of a request there; they count as they read, whatever it says."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
}
_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}


def check_host(host: str, public_url: str = "") -> str:
    """Returns the address to bind.

    Raises:
        ValueError: others reach it, and `public_url` does not say under which address; or that is none.
    """
    if public_url:
        public_host(public_url)
    elif not is_loopback(host):
        raise ValueError(
            f"Listening on {host}, others can reach the studio: say with --public-url under which address, "
            "such as https://studio.example.org, so that requests for any other are refused."
        )
    return host


def public_host(public_url: str) -> str:
    """The host of an address under which others reach the studio. Raises ValueError where it is none."""
    try:
        parts = urlsplit(public_url)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
        host = parts.hostname if is_one and parts.port != 0 else None
    except ValueError:
        host = None
    if host is None:
        raise ValueError(f"expected an address such as https://studio.example.org, got {public_url!r}")
    return host


def check_port(host: str, port: int) -> int:
    """Returns the port to bind.

    Raises:
        ValueError: another program listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"Port {port} is taken: end the other program, or set GRADIO_SERVER_PORT to another one."
            ) from error
    return port


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def protect(app: FastAPI, public_url: str = "") -> None:
    """Adds, from outside in: trusted hosts, strict CORS (silences Gradio's own), origin check, headers."""
    headers = _HEADERS | (_HTTPS if public_url.startswith("https:") else {})
    app.add_middleware(_Guard, headers=headers)
    app.add_middleware(CORSMiddleware, allow_origins=[])
    app.add_middleware(_KnownHosts, public=public_host(public_url) if public_url else "")


class _KnownHosts:
    """Answers to loopback and to the public name, and to no name that others can point here."""

    def __init__(self, app: ASGIApp, public: str) -> None:
        self.app = app
        self.public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            host = _host_of(Headers(scope=scope).get("host", ""))
            if not is_loopback(host) and not (host and host == self.public):
                refusal = PlainTextResponse("This server does not answer to that address.", 400)
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _host_of(header: str) -> str:
    """The host of a Host header, without port and brackets; empty when it is none."""
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z.-]+))(?::[0-9]{1,5})?", header.lower())
    return (match[1] or match[2]) if match else ""


class _Guard:
    """Refuses foreign requests and adds the headers. Plain ASGI, so that event streams pass untouched."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self.app = app
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = _refusal(Request(scope))
        target = PlainTextResponse(refusal[1], refusal[0]) if refusal else self.app
        await target(scope, receive, send_with_headers)


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
    if "transfer-encoding" in request.headers:
        return 411, "Say how long the request is: it needs a Content-Length, as every browser sends."
    length = request.headers.get("content-length", "0")
    most = LARGER.get(request.url.path, MAX_BODY)
    if not length.isdigit() or int(length) > most:
        return 413, f"A request may have {most:,} bytes at most."
    return None
