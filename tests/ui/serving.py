"""The web process alone, on a thread of the test: every page and route, and no engine behind them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp

from storage.engine import Database
from ui.server import create_app

START_SECONDS = 30
PATIENT = {"timeout": 60.0}
"""What a client of Gradio tells httpx, which gives a busy machine five seconds otherwise."""
GRADIO_NOISE = [  # it leaves event loops of its own unclosed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),  # its statistics of the queue
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),  # the same
]


@contextmanager
def web(db: Database, port: int = 0, around: Callable[[ASGIApp], ASGIApp] | None = None) -> Iterator[str]:
    """Serves the pages on an open data folder; gives their address.

    Args:
        port: for a web that starts again; 0 for a free one.
        around: what stands between the app and its port, such as one who writes down what passes.
    """
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    app: ASGIApp = create_app(db)
    config = uvicorn.Config(
        around(app) if around else app,
        host="127.0.0.1",
        port=port,
        log_level="error",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + START_SECONDS
    while not server.started and time.monotonic() < until:
        threading.Event().wait(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(15)
