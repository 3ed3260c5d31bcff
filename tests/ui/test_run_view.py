"""A run on its page: what can be asked of it, what it says of its end, and what is drawn only with news."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from gradio import skip

from storage import checkpoints, runs, stalls
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.ui.conftest import MakeGroup
from tests.ui.test_tuning import committed, form, running
from ui import queue, run_acts, run_view, tuning
from ui.components.curves import curves_of, lines_of
from ui.components.phases import phases_of
from ui.components.plans import Roles
from ui.components.samples import places_of, samples_of
from ui.pages import train
from ui.run_about import about_html
from ui.run_files import config_url, run_routes
from ui.run_view import Looking
from ui.services import Services


@pytest.fixture
def run(services: Services, db: Database, base: Checkpoint) -> Run:
    made = tuning.start(services, base.id, form())
    running(db, made)
    runs.beat(db, made.id, 1, 1, 2, "updating", 3.0)
    return runs.get_run(db, made.id)


def head(services: Services, run: Run) -> str:
    return run_view.head_html(services, runs.get_run(services.db, run.id))


@pytest.mark.parametrize(
    ("act", "says"),
    [("pause", "Pauses after this"), ("save", "Saves after this"), ("sample", "Samples after this")],
)
def test_what_was_asked_is_said_until_it_is_done(services: Services, run: Run, act: str, says: str) -> None:
    assert says not in head(services, run)
    assert run_acts.acted(services, run.id, act, run.id) == ("", run.id)
    assert says in head(services, run)


def test_a_run_that_is_not_running_refuses_with_what_to_do_instead(
    services: Services, db: Database, run: Run
) -> None:
    runs.move(db, run.id, to="completed", from_states=("running",), attempt=1)
    problem, shown = run_acts.acted(services, run.id, "pause", run.id)
    assert "is complete: extend it" in problem and shown == run.id
    page = head(services, run)
    assert 'data-act="pause"' not in page and 'data-act="continue"' in page


def test_a_completed_run_goes_on_for_as_many_updates_as_were_typed(
    services: Services, db: Database, run: Run
) -> None:
    committed(db, run, 2)
    runs.move(db, run.id, to="completed", from_states=("running",), attempt=1)
    assert "whole number" in run_acts.acted(services, run.id, "continue", f"{run.id}/many")[0]
    assert run_acts.acted(services, run.id, "continue", f"{run.id}/5") == ("", run.id)
    again = runs.get_run(db, run.id)
    assert (again.state, again.config["num_updates"]) == ("queued", 7)
    assert "extended from 2 to 7 updates" in head(services, run)


def test_a_complete_run_leads_to_the_blind_test_against_its_parent(
    services: Services, db: Database, run: Run
) -> None:
    committed(db, run, 2)
    runs.move(db, run.id, to="completed", from_states=("running",), attempt=1)
    made = checkpoints.checkpoints_of_run(db, run.id)[-1]
    link = f"/compare?tab=blind&amp;checkpoints={run.parent_checkpoint_id},{made.id}"
    assert link.replace("&amp;", "&") in head(services, run).replace("&amp;", "&")


def test_a_run_that_ran_out_of_memory_says_its_code_and_starts_again_with_half(
    services: Services, db: Database, run: Run
) -> None:
    runs.end_attempt(db, run.id, 1, exit_code=77, reason="Out of memory.")
    runs.move(db, run.id, to="failed", from_states=("running",), attempt=1, reason="Out of memory.")
    page = head(services, run)
    assert "E-GPU-OOM" in page and 'data-act="lighter"' in page
    problem, shown = run_acts.acted(services, run.id, "lighter", run.id)
    assert problem == "" and shown != run.id
    lighter = runs.get_run(db, str(shown)).config["update"]
    assert lighter["micro_batch_size"] == run.config["update"]["micro_batch_size"] // 2
    assert lighter["gradient_checkpointing"]


def test_only_the_parts_with_news_are_drawn_again(services: Services, db: Database, run: Run) -> None:
    looking = Looking(run.id)
    runs.record_metrics(db, run.id, 1, 1, {"reward/verifier": 0.5})
    stamps, *parts = train.draw(services, looking, {})
    assert all(isinstance(part, str) for part in parts)
    assert list(train.draw(services, looking, stamps)) == [skip()] * (1 + len(parts))
    runs.record_metrics(db, run.id, 1, 2, {"reward/verifier": 0.6})
    _, *again = train.draw(services, looking, stamps)
    assert [name for name, part in zip(train.PARTS, again, strict=True) if isinstance(part, str)] == [
        "curves"
    ]


def test_an_open_log_is_drawn_when_it_grew(services: Services, db: Database, run: Run) -> None:
    path = db.home / "runs" / run.id / "log.txt"
    path.parent.mkdir(parents=True)
    path.write_text("one\n")
    _, closed = run_acts.looked(services, Looking(run.id), "open", run.id)
    _, opened = run_acts.looked(services, closed, "log", run.id)
    stamps, *parts = train.draw(services, opened, {})
    assert "one" in parts[train.PARTS.index("log")]
    path.write_text("one\ntwo\n")
    assert "two" in train.draw(services, opened, stamps)[1 + train.PARTS.index("log")]


def test_runs_beside_are_kept_few_and_leave_with_the_run_that_is_shown() -> None:
    looking = Looking("a")
    for other in "bcde":
        looking = looking.toggled(other)
    assert looking.beside == ("c", "d", "e") and looking.toggled("a") == looking
    assert looking.toggled("d").beside == ("c", "e")
    assert looking.with_run("b") == Looking("b")


def test_a_band_of_one_standard_deviation_lies_around_a_reward(db: Database, run: Run) -> None:
    for update, value in ((1, 0.4), (2, 0.6)):
        runs.record_metrics(db, run.id, 1, update, {"reward/clip": value, "reward_std/clip": 0.1})
    curve = curves_of(lines_of(runs.metrics_since(db, run.id, -1)), Roles({"clip": 1.0}))[0]
    assert (curve.low, curve.high) == ("0.300", "0.700")
    assert curve.band.startswith("M") and curve.band.endswith("Z")
    assert '"spread":[[1,0.1],[2,0.1]]' in curve.series


def test_other_runs_share_the_axes_and_the_held_out_line_is_a_card_of_its_own(db: Database, run: Run) -> None:
    lines = {"reward/clip": [(1, 0.4), (2, 0.5)], "held_out/clip": [(0, 0.3), (2, 0.4)]}
    other = {"reward/clip": [(1, 0.9), (8, 1.0)]}
    curves = curves_of(lines, Roles({"clip": 1.0}), [other])
    assert [curve.title for curve in curves] == ["clip × 1", "clip × 1, held out"]
    assert curves[0].high == "1.000" and curves[0].others[0] and not curves[0].dashed
    assert curves[1].others == [""]


def test_phases_are_stacked_to_what_an_update_took() -> None:
    lines = {"seconds/update": [(1, 2.0), (2, 4.0)], "seconds/rollout": [(1, 1.0), (2, 4.0)]}
    phases = phases_of(lines)
    assert phases is not None and phases.last == "8.0 s"
    assert [name for name, *_ in phases.parts] == ["rollout", "update"]
    last = [block for block in phases.blocks if block.x > 0]
    assert sum(block.height for block in last) == pytest.approx(96)
    assert phases_of({"seconds/rollout": [(1, 1.0)]}) is None


def test_every_prompt_and_seed_has_an_address_for_every_update(
    db: Database, run: Run, make_group: MakeGroup
) -> None:
    for update in (0, 1, 2):
        make_group([0.5, 0.6], kind="sample", run_id=run.id, update=update)
    make_group([0.5], kind="sample", run_id=run.id, update=2, prompt="portrait, late")
    steps = samples_of(db, run.id)
    places = places_of(steps)
    assert [(place.prompt, place.seed) for place in places] == [
        ("portrait, red hair", 7),
        ("portrait, red hair", 8),
        ("portrait, late", 7),
    ]
    assert all(len(place.urls) == 3 for place in places)
    assert len(set(places[0].urls)) == 3 and len(set(places[2].urls)) == 1


def test_the_lineage_names_the_prompts_and_rewards_of_every_run_of_the_line(
    services: Services, db: Database, base: Checkpoint, run: Run
) -> None:
    committed(db, run, 2)
    runs.move(db, run.id, to="completed", from_states=("running",), attempt=1)
    made = checkpoints.checkpoints_of_run(db, run.id)[-1]
    _, child = run_acts.acted(services, run.id, "branch", made.id)
    page = about_html(services, runs.get_run(db, str(child)))
    assert page.index(base.name) < page.index("update 2") < page.index("Run 2")
    assert "verifier 0.5, clip 0.3, quality 0.2" in page and "<dd>2</dd>" in page


def test_a_run_that_began_offers_its_file_and_the_line_that_repeats_it(
    services: Services, db: Database, run: Run
) -> None:
    assert "config.yaml" not in about_html(services, run)
    app = FastAPI()
    app.include_router(run_routes(db))
    client = TestClient(app)
    assert client.get(config_url(run.id)).status_code == 404
    assert client.get(config_url("x" * 36)).status_code == 404
    path = db.home / "runs" / run.id / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("seed: 3\n")
    page = about_html(services, run)
    assert "It listens to people" not in page
    run.config = run.config | {"reward_weights": {"human": 1.0}}
    assert "It listens to people" in about_html(services, run)
    rated = {"reward_weights": {}, "ratings": {"snapshot": "x"}, "algorithm": {"name": "nft"}}
    run.config = run.config | rated
    assert "It learns from ratings" in about_html(services, run)
    assert f'href="/runs/{run.id}/config.yaml" download' in page
    assert f"python app.py run run-{run.number}-config.yaml" in page
    told = client.get(config_url(run.id))
    assert told.text == "seed: 3\n"
    assert f"run-{run.number}-config.yaml" in told.headers["content-disposition"]


def test_a_run_that_stands_still_says_for_how_long(services: Services, db: Database, run: Run) -> None:
    assert "No progress for" not in head(services, run)
    assert stalls.mark_stalled(db, run.id, 1, "No progress for 12 min.")
    page = head(services, run)
    assert "No progress for" in page and "stop it, or wait" in page
    runs.beat(db, run.id, 1, phase="sampling")
    assert "No progress for" not in head(services, run)


def test_nobody_is_told_how_long_a_run_that_stands_still_takes(
    services: Services, db: Database, run: Run
) -> None:
    def said() -> list[str]:
        return [
            services.engine().words,
            head(services, run),
            run_view.list_html(services, Looking(run.id)),
            queue.training_words(db),
        ]

    assert [" left" in words or "more" in words for words in said()] == [True] * 4
    stalls.mark_stalled(db, run.id, 1, "No progress for 12 min.")
    assert [" left" in words or "for about" in words for words in said()] == [False] * 4
    assert (services.engine().words, services.engine().tone) == (
        "Run 1 · update 1 of 2 · no progress",
        "attention",
    )


def test_a_run_that_waits_has_its_place_in_the_queue_and_can_be_moved(
    services: Services, db: Database, base: Checkpoint, run: Run
) -> None:
    first, second = (tuning.start(services, base.id, form()) for _ in range(2))
    assert "Place 1 of 2" in head(services, first) and 'data-act="sooner"' not in head(services, first)
    assert run_acts.acted(services, second.id, "sooner", second.id) == ("", second.id)
    assert "Place 1 of 2" in head(services, second) and 'data-act="later"' in head(services, second)
    assert "Place 2 of 2" in head(services, first)
    problem, _ = run_acts.acted(services, run.id, "later", run.id)
    assert "only a run that waits has a place" in problem
