"""The Studio's services write intents as rows and read what came of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from storage import checkpoints, groups, workers
from storage.engine import Database
from storage.models import Checkpoint, ImageGroup
from storage.types import utc_now
from tests.ui.conftest import MakeGroup
from ui.components import topbar
from ui.forms import GroupForm, Refused
from ui.services import EngineStatus, Services, shown


def test_a_request_becomes_a_queued_row(services: Services, base: Checkpoint) -> None:
    made = services.generate(base.id, GroupForm(prompt="portrait", group_size=2, seeds="5"))
    assert (made.state, made.seeds, made.prompt) == ("queued", [5, 6], "portrait")
    view = services.group(made.id)
    assert view is not None and view.group.config["width"] == 64
    assert services.position(view) == 0


@pytest.mark.parametrize("checkpoint", [None, "", "nobody", 3, "../../etc/passwd"])
def test_an_unknown_checkpoint_is_refused(services: Services, checkpoint: object) -> None:
    with pytest.raises(Refused, match="checkpoint"):
        services.generate(checkpoint, GroupForm(prompt="portrait"))


def test_a_damaged_checkpoint_is_refused_and_nothing_is_queued(
    services: Services, db: Database, base: Checkpoint
) -> None:
    checkpoints.mark_checkpoint(db, base.id, "bad")
    with pytest.raises(Refused, match="are bad: choose another"):
        services.generate(base.id, GroupForm(prompt="portrait"))
    assert groups.queued_count(db) == 0


def test_a_refused_request_leaves_no_row(services: Services, db: Database, base: Checkpoint) -> None:
    with pytest.raises(Refused):
        services.generate(base.id, GroupForm(prompt="portrait", num_steps=0))
    assert groups.queued_count(db) == 0


def test_size_and_factor_come_from_the_folder_of_the_base(
    services: Services, db: Database, tmp_path: Path
) -> None:
    for name, config in (("vae", {"block_out_channels": [8, 8, 8]}), ("unet", {"sample_size": 24})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    other = checkpoints.register_base(
        db, name="mine", source=str(tmp_path), family="StableDiffusionXLPipeline"
    )
    facts = services.base_facts(other)
    assert (facts.factor, facts.size, facts.is_starter) == (4, 96, False)
    with pytest.raises(Refused, match="multiple of 4 for this base; 66"):
        services.generate(other.id, GroupForm(prompt="portrait", width=66))


def test_the_wait_is_estimated_from_finished_groups(
    services: Services, db: Database, base: Checkpoint, make_group: MakeGroup
) -> None:
    made = services.generate(base.id, GroupForm(prompt="portrait", group_size=2))
    queued = services.group(made.id)
    assert queued is not None and services.seconds_left(queued) is None
    done = make_group()
    with db.write() as session:
        row = session.get_one(ImageGroup, done.group.id)
        assert row.started_at is not None
        row.finished_at = row.started_at + timedelta(seconds=8)
    assert services.seconds_left(queued) == pytest.approx(8, rel=0.01)


def test_the_top_bar_says_when_nothing_answers(services: Services, base: Checkpoint) -> None:
    assert services.engine().words == "Engine asleep"
    services.generate(base.id, GroupForm(prompt="portrait"))
    assert services.engine().words == "Engine not running · 1 waiting"
    assert services.engine().tone == "attention"


def test_the_top_bar_shows_the_engine_and_forgets_a_stale_one(services: Services, db: Database) -> None:
    workers.worker_beat(db, worker_id="w", pid=1, state="idle", detail="CPU")
    assert services.engine().words == "Engine ready · CPU"
    later = replace(services, now=lambda: utc_now() + timedelta(minutes=1))
    assert later.engine().words == "Engine asleep"


LAST_WORDS = "The engine ended with exit code 3 after 1 s and starts again. Its last words: no <b>libcuda"


def test_the_last_words_of_a_dead_engine_are_on_every_page_until_it_lives_again(
    services: Services, db: Database
) -> None:
    workers.worker_beat(db, worker_id="w", pid=0, state="stopped", detail=LAST_WORDS)
    assert services.engine().words == "Engine ended"
    html = topbar.html(services, "/")
    assert "with exit code 3" in html and "no &lt;b&gt;libcuda." in html
    workers.worker_beat(db, worker_id="w", pid=2, state="idle", detail="CPU")
    assert services.engine() == EngineStatus("Engine ready · CPU", "on")


def test_an_engine_that_ended_as_it_should_or_long_ago_is_asleep(services: Services, db: Database) -> None:
    workers.worker_beat(db, worker_id="w", pid=0, state="stopped")
    assert services.engine() == EngineStatus("Engine asleep", "")
    workers.worker_beat(db, worker_id="w", pid=0, state="stopped", detail=LAST_WORDS)
    later = replace(services, now=lambda: utc_now() + timedelta(minutes=5))
    assert later.engine().trouble == ""


def test_an_error_is_shown_as_a_sentence() -> None:
    assert shown(LookupError("there is no group")) == "There is no group."
    assert shown(ValueError("Use 64?")) == "Use 64?"
