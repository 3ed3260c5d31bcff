"""Where the web listens, under which address people reach it, and how the first of them gets in."""

from __future__ import annotations

import os
from dataclasses import dataclass

from storage import accounts, login_links, users
from storage.engine import Database
from ui.security import check_host, check_port, is_loopback


@dataclass(frozen=True)
class Listening:
    """An address to bind.

    Attributes:
        public_url: the one under which others reach it; empty where only this machine does.
    """

    host: str
    port: int
    public_url: str = ""

    @classmethod
    def asked(cls, host: str | None, port: int | None, public_url: str) -> Listening:
        """From the command line, then the environment, then what is usual.

        Raises:
            ValueError: it cannot be bound, or others would reach it under no known address.
        """
        public_url = public_url or os.environ.get("FLOWGRPO_PUBLIC_URL", "")
        address = check_host(host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), public_url)
        number = port or int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
        return cls(address, check_port(address, number), public_url.rstrip("/"))

    @property
    def is_public(self) -> bool:
        """Whether others than this machine reach it, so that people have to log in."""
        return bool(self.public_url) or not is_loopback(self.host)

    @property
    def url(self) -> str:
        """What a person types."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{shown}:{self.port}"


def first_link(db: Database, listening: Listening) -> str:
    """An address that makes the first account, where one has to be made; else empty.

    It is that of the person who needed no login, so that what they made stays theirs.
    """
    if not listening.is_public or accounts.are_in_force(db):
        return ""
    return link_url(listening.url, login_links.make_link(db, users.LOCAL, by=users.LOCAL))


def link_url(public_url: str, secret: str) -> str:
    """The address of a link. Its secret is a fragment, which browsers send to no server and no log keeps."""
    return f"{public_url.rstrip('/')}/setup#{secret}"
