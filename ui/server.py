"""The web process: a FastAPI app with our routes and the Gradio pages mounted on it. No torch."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio import blocks

from storage.engine import Database
from ui import api, security
from ui.account import account_routes
from ui.components import script
from ui.defaults import keep_first_sets
from ui.entrance import Entrance
from ui.evaluation_files import evaluation_routes
from ui.guarding import guard
from ui.library.routes import library_routes
from ui.login import login_routes
from ui.media import media_routes
from ui.operations import operation_routes
from ui.pages import blind, compare, library, rate, studio, team, train
from ui.people import people_routes
from ui.run_files import run_routes
from ui.services import Services
from ui.theme import studio_theme, stylesheet
from ui.uploads import upload_routes

TITLE = "FlowGRPO Studio"
_QUEUE = 64
_ROUTES = (
    login_routes,
    account_routes,
    media_routes,
    people_routes,
    upload_routes,
    library_routes,
    run_routes,
    evaluation_routes,
)


def listen(app: FastAPI, host: str, port: int) -> None:
    """Serves until a signal ends it.

    What is there before the first request is left out of garbage collection: to look through all of Gradio's
    modules and pages again and again stops every request for a third of a second.
    """
    gc.collect()
    gc.freeze()
    uvicorn.run(app, host=host, port=port, log_config=None, timeout_graceful_shutdown=2)


def create_app(
    db: Database, *, host: str = "127.0.0.1", public_url: str = "", demands_accounts: bool = False
) -> FastAPI:
    """Builds the web app on an open data folder.

    Args:
        public_url: the address under which others reach it, where they do.
        demands_accounts: whether people log in although nobody has a password yet.

    Raises:
        ValueError: others reach `host`, and `public_url` does not say under which address.
    """
    security.check_host(host, public_url)
    _keep_to_this_machine(db)
    keep_first_sets(db)
    app = FastAPI(title=TITLE, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Entrance, db=db, demands_accounts=demands_accounts)
    security.protect(app, public_url)
    for routes in _ROUTES:
        app.include_router(routes(db))
    app.include_router(operation_routes(app, db))

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="SSR mode is not supported"
        )  # it is off; Gradio says so regardless
        mounted: FastAPI = gr.mount_gradio_app(
            app,
            pages(Services(db)),
            path="/",
            theme=studio_theme(),
            css=stylesheet(),
            head=_head(),
            allowed_paths=[],
            blocked_paths=[str(db.home)],
            run_history=False,
            show_error=False,  # of our own errors the sentence is shown; what any other says stays in the log
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size="1mb",
            footer_links=[],
            app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        )
    return mounted


def pages(services: Services) -> gr.Blocks:
    """All pages as one Gradio app; each page is a route of its own."""
    with _no_app_yet():
        return _pages(services)


def _pages(services: Services) -> gr.Blocks:
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        studio.build(demo, services)
        api.add(services)
    for page in (rate, compare, train, library, team):
        with demo.route(page.PATH.strip("/").capitalize(), page.PATH):
            page.build(demo, services)
    with demo.route("Blind", blind.PATH, show_in_navbar=False):
        blind.build(demo, services)
    guard(demo, services.db)
    demo.queue(max_size=_QUEUE, api_open=False)
    return demo


@contextmanager
def _no_app_yet() -> Iterator[None]:
    """While pages are added: Gradio makes a web app at the end of each and throws away the one before, which
    takes a second of every start. The one that serves is made when all are mounted.
    """
    made, blocks.App = blocks.App, SimpleNamespace(create_app=lambda *_, **__: None)
    try:
        yield
    finally:
        blocks.App = made


def _head() -> str:
    return "".join(f"<script>{script(name)}</script>" for name in ("head.js", "drafts.js"))


def _keep_to_this_machine(db: Database) -> None:
    """No analytics and no temp files elsewhere; Gradio reads these when it starts to serve."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(db.home / "tmp" / "gradio")
    logging.getLogger("httpx").setLevel(logging.WARNING)
