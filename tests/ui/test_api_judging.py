"""A blind test by API tells nothing before its reveal; weights from votes can be applied and withdrawn."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

from flowgrpo.config import DEFAULT_WEIGHTS, SamplingConfig
from storage import blobs, checkpoints, groups, jobs, ratings, runs, snapshots
from storage.engine import Database, open_database
from storage.models import Checkpoint
from storage.ratings import RatingInput
from tests.storage.ready import ready
from tests.ui.serving import GRADIO_NOISE, PATIENT, web

pytestmark = GRADIO_NOISE
PROMPTS = ["portrait, red hair", "portrait, glasses"]


class Studio(NamedTuple):
    """A served data folder."""

    db: Database
    url: str
    ask: Callable[..., Any]
    base: str
    tuned: str


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    db = open_database(ready(tmp_path_factory.mktemp("served")))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with db.write() as session:
        session.add(
            Checkpoint(id="tuned", base_model_id=base.base_model_id, name="Secret name", path="p", update=1)
        )
    with web(db) as url:
        client = Client(url, verbose=False, analytics_enabled=False, httpx_kwargs=PATIENT)

        def ask(name: str, *values: Any, **named: Any) -> Any:
            return client.predict(*values, **named, api_name=f"/{name}")

        yield Studio(db, url, ask, base.id, "tuned")
        client.close()
    db.close()


def picture(shade: int) -> bytes:
    info, buffer = PngInfo(), io.BytesIO()
    info.add_itxt("parameters", "Model: Secret name")
    Picture.new("RGB", (8, 8), (shade, 9, 9)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def draw(studio: Studio) -> None:
    """An image of each checkpoint, prompt and seed, in the colour of its checkpoint."""
    config = SamplingConfig(num_steps=8, guidance_scale=1.0).model_dump()
    for shade, checkpoint_id in ((10, studio.base), (200, studio.tuned)):
        for prompt in PROMPTS:
            group = groups.request_group(
                studio.db, prompt=prompt, checkpoint_id=checkpoint_id, config=config, seeds=[7, 8],
                kind="compare", worker_id="w",
            )  # fmt: skip
            for index, seed in enumerate((7, 8)):
                sha = blobs.put_png(studio.db.home, picture(shade))
                groups.add_image(
                    studio.db, group_id=group.id, index=index, seed=seed, sha256=sha, width=8, height=8
                )
            groups.finish_group(studio.db, group.id)


def test_a_blind_test_by_api(studio: Studio) -> None:
    with pytest.raises(AppError, match="8 of the 8 images are not drawn yet"):
        studio.ask("start_blind_test", [studio.base, studio.tuned], PROMPTS, images=2)
    draw(studio)
    test = studio.ask("start_blind_test", [studio.base, studio.tuned], PROMPTS, images=2)
    assert test == {
        "id": test["id"],
        "name": "Blind test 1",
        "num_votes": 0,
        "num_pairs": 4,
        "revealed": False,
        "trained_on": [],
    }
    secrets = {studio.base, studio.tuned, "Secret", "starter", *_image_ids(studio)}
    pair, sides = studio.ask("next_pair", test["id"]), set()
    for number in range(4):
        assert not [secret for secret in secrets if secret in json.dumps(pair)]
        red = _red(studio, pair["left"])
        assert {red, _red(studio, pair["right"])} == {10, 200}
        sides.add(red)
        answer = "left" if red == 200 else "right"
        following = studio.ask("vote_pair", pair["pair"], f"key of vote {number}", answer, 800)
        pair, last = following, pair
    assert pair == {} and studio.ask("next_pair", test["id"]) == {}
    assert studio.ask("undo_pair", test["id"], "undo it")["pair"] == last["pair"]
    answer = "left" if _red(studio, last["left"]) == 200 else "right"
    studio.ask("vote_pair", last["pair"], "said again", answer)
    found = studio.ask("blind_results", test["id"])
    assert found["num_votes"] == 4 and "checkpoints" not in found and "job" not in found
    _reveal(studio, test["id"], last["pair"])


def _reveal(studio: Studio, test_id: str, pair_id: str) -> None:
    found = studio.ask("blind_results", test_id, reveal=True)
    assert found["checkpoints"] == [studio.base, studio.tuned] and found["job"]["state"] == "queued"
    assert jobs.get_job(studio.db, found["job"]["id"]).payload == {"test": test_id}
    jobs.claim_job(studio.db, "w")
    jobs.finish_job(studio.db, found["job"]["id"], {"entries": []})
    again = studio.ask("blind_results", test_id)
    assert again["job"]["id"] == found["job"]["id"] and again["job"]["result"] == {"entries": []}
    with pytest.raises(AppError, match="This test was revealed"):
        studio.ask("vote_pair", pair_id, "too late", "left")


def _image_ids(studio: Studio) -> set[str]:
    views = groups.recent_groups(studio.db, kinds=("compare", "studio"), limit=10)
    return {image.image.id for view in views for image in view.images}


def _red(studio: Studio, address: str) -> int:
    got = httpx.get(studio.url + address)
    assert got.status_code == 200 and b"Secret" not in got.content and "etag" not in got.headers
    with Picture.open(io.BytesIO(got.content)) as opened:
        assert opened.size == (8, 8) and opened.info == {}
        red, _, _ = opened.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
        return int(red)


def test_a_blind_test_says_which_prompts_are_not_new_and_names_nobody_before_its_reveal(
    studio: Studio,
) -> None:
    draw(studio)
    config = {"prompts": [PROMPTS[0].upper()], "num_updates": 1}
    run = runs.create_run(
        studio.db, name="r", owner_id="local", parent_checkpoint_id=studio.base, config=config
    )
    runs.request_stop(studio.db, run.id)
    with studio.db.write() as session:
        one = session.get(Checkpoint, studio.tuned)
        assert one is not None
        one.run_id = run.id
    test = studio.ask("start_blind_test", [studio.base, studio.tuned], PROMPTS)
    rest = ": its numbers there say how well it learned its own prompts."
    assert test["trained_on"] == [f"1 of 2 prompts trained a checkpoint of this test{rest}"]
    found = studio.ask("blind_results", test["id"], reveal=True)
    assert found["trained_on"] == [f"1 of 2 prompts trained Secret name{rest}"]


def test_a_pair_that_is_none_has_no_picture(studio: Studio) -> None:
    for address in ("/media/blind/nothing/left.png", "/media/blind/../left.png"):
        assert httpx.get(studio.url + address).status_code == 404
    assert httpx.get(studio.url + "/media/blind/nothing/middle.png").status_code == 422


def test_weights_are_asked_for_listed_applied_and_withdrawn(studio: Studio) -> None:
    asked = studio.ask("request_calibration", allow_negative=True)
    assert (asked["kind"], asked["state"]) == ("calibrate", "queued")
    assert studio.ask("get_job", asked["id"]) == asked
    assert jobs.get_job(studio.db, asked["id"]).payload == {"allow_negative": True}
    assert studio.ask("request_agreement")["kind"] == "agreement"
    assert studio.ask("request_leaderboard")["kind"] == "leaderboard"
    fit = _fit(studio)
    (listed,) = studio.ask("list_fits")
    assert (listed["id"], listed["state"], listed["num_pairs"]) == (fit, "proposed", 120)
    assert listed["snapshot"]["hash"] == listed["detail"]["snapshot_hash"]
    assert studio.ask("apply_fit", fit)["state"] == "applied"
    assert _weights_of_a_run(studio) == {"verifier": 0.75, "quality": 0.25}
    assert studio.ask("withdraw_fit", fit)["state"] == "withdrawn"
    assert _weights_of_a_run(studio) == DEFAULT_WEIGHTS
    assert studio.ask("list_fits", "head") == []


def _fit(studio: Studio) -> str:
    view = groups.recent_groups(studio.db, kinds=("studio", "compare"), limit=1)[0]
    image = view.images[0].image.id
    ratings.rate(studio.db, RatingInput("a vote", "local", view.group.id, "best", image))
    snapshot = snapshots.take_snapshot(studio.db, snapshots.standing_votes(studio.db))
    weights = {"verifier": 0.75, "clip": 0.0, "quality": 0.25}
    detail = {"weights": weights, "annotators": 1, "snapshot_hash": snapshot.hash}
    made = snapshots.record_fit(
        studio.db,
        kind="weights",
        snapshot_id=snapshot.id,
        version="v",
        detail=detail,
        num_pairs=120,
        accuracy=0.7,
    )
    return made.id


def _weights_of_a_run(studio: Studio) -> dict[str, float]:
    run = studio.ask("start_run", studio.base, ["portrait, buns"], preset="smoke")
    studio.ask("stop_run", run["id"])
    weights: dict[str, float] = runs.get_run(studio.db, run["id"]).config["reward_weights"]
    return weights


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("start_blind_test", [[], []], "needs checkpoints and prompts"),
        ("start_blind_test", [["nobody", "x"], ["a"]], "That checkpoint is not known here"),
        ("next_pair", ["nothing"], "There is no blind test"),
        ("vote_pair", ["nothing", "some key", "left"], "There is no pair"),
        ("vote_pair", ["nothing", "some key", "first"], "Expected left, right, tie, bad or skip"),
        ("get_job", ["nothing"], "There is no job"),
        ("apply_fit", ["nothing"], "There is no fit"),
        ("blind_results", ["nothing"], "There is no blind test"),
    ],
)
def test_what_cannot_be_done_is_refused_in_sentences(
    studio: Studio, name: str, values: list[Any], sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        studio.ask(name, *values)
