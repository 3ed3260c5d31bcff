"""The API of evaluations over HTTP: a job at once, its table once it is done, sentences for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from storage import checkpoints, jobs
from storage.engine import Database, open_database
from tests.storage.ready import ready
from tests.ui.serving import PATIENT, web

Ask = Callable[..., Any]

pytestmark = [  # Gradio leaves event loops of its own unclosed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Client, str]]:
    db = open_database(ready(tmp_path_factory.mktemp("served")))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with web(db) as url:
        client = Client(url, verbose=False, analytics_enabled=False, httpx_kwargs=PATIENT)
        yield db, client, base.id
        client.close()
    db.close()


@pytest.fixture
def ask(served: tuple[Database, Client, str]) -> Ask:
    return lambda name, *values, **named: served[1].predict(*values, **named, api_name=f"/{name}")


def test_an_evaluation_is_asked_for_followed_and_read(ask: Ask, served: tuple[Database, Client, str]) -> None:
    db, _, base = served
    asked = ask("evaluate", [base], ["portrait, smile"], seeds="4-5", images=2, steps=[4, 8])
    assert (asked["state"], asked["ahead"], asked["result"]) == ("queued", 0, None)
    payload = jobs.get_job(db, asked["id"]).payload
    assert (payload["seeds"], payload["steps"], payload["config"]["width"]) == ([4, 5], [4, 8], 64)
    claimed = jobs.claim_job(db, "worker")
    assert claimed is not None
    jobs.report_progress(db, claimed.id, "drawing starter", 1, 2)
    assert ask("get_evaluation", asked["id"])["phase"] == "drawing starter"
    folder = db.home / "evaluations" / claimed.id
    folder.mkdir(parents=True)
    (folder / "table.csv").write_text("a,b\n")
    jobs.finish_job(db, claimed.id, {"rows": [], "files": {"csv": "table.csv", "latex": "gone.tex"}})
    assert ask("get_evaluation", asked["id"], form="csv")["text"] == "a,b\n"
    for form, words in (("latex", "are gone"), ("docx", "comes as markdown")):
        with pytest.raises(AppError, match=words):
            ask("get_evaluation", asked["id"], form=form)


@pytest.mark.parametrize(
    ("named", "words"),
    [({"prompts": ["x", "x"]}, "named twice"), ({"checkpoint_ids": []}, "1 to 16 checkpoints"),
     ({"checkpoint_ids": ["nobody"]}, "heckpoint"), ({"seeds": "a"}, "whole numbers"),
     ({"steps": [0]}, "number of steps"), ({"prompts": []}, "prompts")],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(
    ask: Ask, served: tuple[Database, Client, str], named: dict[str, Any], words: str
) -> None:
    given = {"checkpoint_ids": [served[2]], "prompts": ["portrait"]} | named
    with pytest.raises(AppError, match=words):
        ask("evaluate", **given)


def test_a_job_that_is_no_evaluation_is_refused(ask: Ask, served: tuple[Database, Client, str]) -> None:
    other = jobs.request_job(served[0], "fit", {})
    with pytest.raises(AppError, match="no evaluation"):
        ask("get_evaluation", other.id)
    with pytest.raises(AppError, match="no job"):
        ask("get_evaluation", "nowhere")
