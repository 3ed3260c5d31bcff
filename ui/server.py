"""The web process: a FastAPI app with our routes and the Gradio pages mounted on it. No torch."""

from __future__ import annotations

import logging
import os
import warnings

import gradio as gr
from fastapi import FastAPI

from storage.engine import Database
from ui import api, security
from ui.components import script
from ui.media import media_routes
from ui.pages import compare, rate, studio, train
from ui.services import Services
from ui.theme import STYLESHEET, studio_theme

TITLE = "FlowGRPO Studio"
_QUEUE = 64


def create_app(db: Database, *, host: str = "127.0.0.1") -> FastAPI:
    """Builds the web app on an open data folder.

    Raises:
        ValueError: `host` is not a loopback address.
    """
    security.check_host(host)
    _keep_to_this_machine(db)
    app = FastAPI(title=TITLE, docs_url=None, redoc_url=None, openapi_url=None)
    security.protect(app)
    app.include_router(media_routes(db))

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok", "database": f"{db.driver.name} {db.driver.version}"}

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="SSR mode is not supported"
        )  # it is off; Gradio says so regardless
        mounted: FastAPI = gr.mount_gradio_app(
            app,
            pages(Services(db)),
            path="/",
            theme=studio_theme(),
            css=STYLESHEET.read_text(),
            head=_head(),
            allowed_paths=[],
            blocked_paths=[str(db.home)],
            run_history=False,
            show_error=True,
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
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        studio.build(demo, services)
        api.add(services)
    with demo.route("Rate", rate.PATH):
        rate.build(demo, services)
    with demo.route("Compare", compare.PATH):
        compare.build(demo, services)
    with demo.route("Train", train.PATH):
        train.build(demo, services)
    demo.queue(max_size=_QUEUE, api_open=False)
    return demo


def _head() -> str:
    return f"<script>{script('head.js')}</script>"


def _keep_to_this_machine(db: Database) -> None:
    """No analytics and no temp files elsewhere; Gradio reads these when it starts to serve."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(db.home / "tmp" / "gradio")
    logging.getLogger("httpx").setLevel(logging.WARNING)
