"""The API names of the journeys answer over HTTP, and refuse in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from flowgrpo.config import SamplingConfig
from storage import blobs, checkpoints, groups
from storage.engine import Database, open_database
from tests.storage.ready import ready
from tests.ui.conftest import png
from tests.ui.serving import PATIENT, web

Ask = Callable[..., Any]


pytestmark = [  # Gradio leaves event loops of its own unclosed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Client]]:
    """One served data folder and one client for all tests of this file."""
    db = open_database(ready(tmp_path_factory.mktemp("served")))
    checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with web(db) as url:
        client = Client(url, verbose=False, analytics_enabled=False, httpx_kwargs=PATIENT)
        yield db, client
        client.close()
    db.close()


@pytest.fixture
def ask(served: tuple[Database, Client]) -> Ask:
    return lambda name, *values, **named: served[1].predict(*values, **named, api_name=f"/{name}")


def finished_group(db: Database, checkpoint_id: str) -> None:
    config = SamplingConfig().model_dump()
    group = groups.request_group(
        db, prompt="portrait", checkpoint_id=checkpoint_id, config=config, seeds=[1, 2], worker_id="w"
    )
    for index, value in enumerate((0.25, 0.75)):
        sha = blobs.put_png(db.home, png(index))
        image = groups.add_image(
            db, group_id=group.id, index=index, seed=index, sha256=sha, width=8, height=8
        )
        groups.add_scores(db, [groups.ScoreInput(image.id, "verifier", "1", value)])
    groups.finish_group(db, group.id)


def test_a_journey_by_api(ask: Ask, served: tuple[Database, Client]) -> None:
    db = served[0]
    (base,) = ask("list_checkpoints")
    asked = ask("generate_group", "portrait, smile", base["id"], group_size=2, seeds="5")
    assert (asked["state"], asked["seeds"], asked["images"]) == ("queued", [5, 6], [])
    assert groups.queued_count(db) == 1
    finished_group(db, base["id"])
    task = ask("next_task")
    assert set(task) == {"id", "prompt", "images"}
    assert set(task["images"][0]) == {"id", "url"}
    for _ in range(2):
        assert ask("rate", task["id"], "key-of-this-card", best=task["images"][1]["id"]) == {}
    shown = ask("get_group", task["id"])
    assert [image["best"] for image in shown["images"]] == [False, True]
    assert [image["scores"]["verifier"] for image in shown["images"]] == [0.25, 0.75]
    run = ask("start_run", base["id"], ["portrait, buns"], preset="smoke")
    assert (run["state"], run["num_updates"]) == ("queued", 2)
    assert ask("stop_run", run["id"])["state"] == "canceled"
    assert ask("get_run", run["id"])["checkpoints"] == []
    grid = ask("compare", [base["id"]], ["portrait"], generate=True)
    assert grid["missing"] == 0 and grid["groups"][0][0]["state"] == "queued"


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("generate_group", ["", "nobody"], "That checkpoint is not known here"),
        ("get_group", ["../x"], "There is no group with this id."),
        ("get_run", [""], "There is no run with this id."),
        ("start_run", ["nobody", []], "That checkpoint is not known here"),
        ("rate", ["nobody", "k" * 12], "Nothing was rated"),
        ("compare", [[], []], "Choose 1 to 6 checkpoints"),
    ],
)
def test_the_api_refuses_in_sentences(ask: Ask, name: str, values: list[Any], sentence: str) -> None:
    with pytest.raises(AppError, match=sentence):
        ask(name, *values)


def test_an_error_is_escaped(ask: Ask) -> None:
    (base,) = ask("list_checkpoints")
    with pytest.raises(AppError, match="&lt;img&gt;"):
        ask("generate_group", "portrait", base["id"], seeds="<img>")
