"""Who may talk to the server: this machine only, and pages of our own origin only."""

from __future__ import annotations

import ipaddress
import re
import socket

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_BODY = 1_000_000
"""Bytes of a request; nothing that is typed here comes near."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
}


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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def protect(app: FastAPI) -> None:
    """Adds, from outside in: trusted hosts, strict CORS (silences Gradio's own), origin check, headers."""
    app.add_middleware(_Guard)
    app.add_middleware(CORSMiddleware, allow_origins=[])
    app.add_middleware(_ThisMachine)


class _ThisMachine:
    """Answers to every address that `check_host` allows, and to no name that others can point here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asked = scope["type"] in ("http", "websocket")
        if is_asked and not _is_loopback(_host_of(Headers(scope=scope).get("host", ""))):
            refusal = PlainTextResponse("This server answers to loopback addresses only.", 400)
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _host_of(header: str) -> str:
    """The host of a Host header, without port and brackets; empty when it is none."""
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z.-]+))(?::[0-9]{1,5})?", header.lower())
    return (match[1] or match[2]) if match else ""


class _Guard:
    """Refuses foreign requests and adds the headers. Plain ASGI, so that event streams pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
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
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY:
        return 413, f"A request may have {MAX_BODY:,} bytes at most."
    return None
