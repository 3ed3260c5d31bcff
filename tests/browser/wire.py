"""One who writes down all that passes between a browser and the studio: addresses, headers and whole bodies,
event streams too, which a browser's own tools give up on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Exchange:
    """A request and its answer."""

    address: str
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)

    @property
    def kind(self) -> str:
        """The media type of the answer."""
        return dict(self.headers).get(b"content-type", b"").decode()

    def texts(self) -> Iterator[str]:
        """All that can be read in it."""
        yield self.address
        yield from (value.decode("latin-1") for _, value in self.headers)
        yield self.body.decode("utf-8", "replace")


class Wire:
    """An ASGI app around another one; what it sees is never compressed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.seen: list[Exchange] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        query = scope["query_string"].decode()
        seen = Exchange(scope["path"] + (f"?{query}" if query else ""))
        self.seen.append(seen)

        async def write_down(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.headers = list(message["headers"])
            elif message["type"] == "http.response.body":
                seen.body += message.get("body", b"")
            await send(message)

        await self.app({**scope, "headers": plain}, receive, write_down)

    def leaks(self, secrets: set[str]) -> list[str]:
        """Every secret that passed, with the address that it came with."""
        found = []
        for exchange in list(self.seen):
            said = "\n".join(exchange.texts()).lower()
            found += [f"{one} in {exchange.address}" for one in sorted(secrets) if one.lower() in said]
        return found
