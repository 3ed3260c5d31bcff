"""The whole program as a person starts it, on a folder and a port of its own, and Debian's Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "flowgrpo" / "starter" / "weights" / "pipeline"
START_SECONDS = 120
"""How long a loaded machine may take; the budget itself is measured by `make bench`."""

ANSWER_MS = 60_000
"""How long a page may take to show something on a loaded machine."""


@dataclass(frozen=True)
class Studio:
    """A running studio.

    Attributes:
        url: where it listens.
        has_rewards: whether the starter's rewards are there; without its weights only "diversity" is.
    """

    url: str
    has_rewards: bool


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """`python app.py` on the starter, or on a tiny random pipeline where that is not built."""
    folder = tmp_path_factory.mktemp("studio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "serve", "--port", str(port)]
    if not STARTER.is_dir():
        from tests.tiny import tiny_sdxl

        tiny_sdxl(folder / "tiny")
        command += ["--base", str(folder / "tiny")]
    log = (folder / "log.txt").open("wb")
    environment = {**os.environ, "FLOWGRPO_HOME": str(folder / "home")}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process, folder / "log.txt")
        yield Studio(url, STARTER.is_dir())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        log.close()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
    pytest.fail(f"the studio did not start in {START_SECONDS} s: {log.read_text()}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or the one that CHROMIUM names."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("There is no Chromium: apt-get install chromium, or name one in CHROMIUM.")
    expect.set_options(timeout=ANSWER_MS)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()
