"""Two studios on one data folder: both work, one engine draws, and the second takes over from the first."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest
from gradio_client import Client

from storage.engine import open_database
from storage.ratings import current_ratings
from tests.runs.helpers import wait_for
from tests.served import served
from tests.tiny import tiny_sdxl
from tests.ui.serving import PATIENT

pytestmark = [  # gradio_client leaves sockets open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Person:
    """Somebody at one of the two studios, by the API of the pages' journeys."""

    def __init__(self, url: str) -> None:
        self.client = Client(url, verbose=False, analytics_enabled=False, httpx_kwargs=PATIENT)

    def call(self, name: str, *values: object) -> Any:
        return self.client.predict(*values, api_name=f"/{name}")

    def draws(self) -> dict[str, Any]:
        """A group of two, asked for here, when it is done."""
        tiny = next(one["id"] for one in self.call("list_checkpoints") if one["name"] == "tiny")
        asked = self.call("generate_group", "red hair", tiny, 2, "", 2, 1.0, "", 64, 64)

        def done() -> dict[str, Any] | None:
            group: dict[str, Any] = self.call("get_group", asked["id"])
            assert group["state"] in ("queued", "running", "done"), group["reason"]
            return group if group["state"] == "done" else None

        return wait_for(done, seconds=200.0, what="the group")

    def rates(self, group: dict[str, Any], index: int) -> None:
        self.call("rate", group["id"], uuid.uuid4().hex, group["images"][index]["id"])


def num_engines(home: Path) -> int:
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return sum("flowgrpo.runs.worker" in line and str(home) in line for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_second_studio_on_the_same_folder_works_beside_the_first_and_outlives_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    options = ["--base", str(tiny_sdxl(tmp_path / "tiny"))]
    with (
        served(home, tmp_path / "first.log", options) as first,
        served(home, tmp_path / "second.log", options) as second,
    ):
        here, there = Person(first.url), Person(second.url)
        one, two = here.draws(), there.draws()
        assert num_engines(home) == 1
        there.rates(one, 1)
        here.rates(two, 0)
        first.process.kill()
        first.process.wait()
        three = there.draws()
        there.rates(three, 1)
        wait_for(lambda: num_engines(home) == 1, what="a single engine")
    db = open_database(home)
    kept = {group["id"]: current_ratings(db, group["id"]).best for group in (one, two, three)}
    db.close()
    chosen = [one["images"][1], two["images"][0], three["images"][1]]
    assert list(kept.values()) == [image["id"] for image in chosen]
