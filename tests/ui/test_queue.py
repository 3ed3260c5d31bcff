"""The queue card: what is drawn and what waits, in order, and who may cancel what."""

from __future__ import annotations

from typing import Any

import pytest

from storage import groups, jobs, runs, users
from storage.engine import Database
from storage.models import Checkpoint, ImageGroup, Run
from tests.ui.conftest import MakeGroup
from ui import queue
from ui.services import Services

CONFIG = {"num_steps": 16, "guidance_scale": 3.0, "width": 64, "height": 64, "negative_prompt": ""}


@pytest.fixture
def wait(db: Database, base: Checkpoint) -> object:
    def ask(prompt: str, by: str = "local") -> ImageGroup:
        return groups.request_group(
            db, prompt=prompt, checkpoint_id=base.id, config=CONFIG, seeds=[1, 2], created_by=by
        )

    return ask


def test_the_card_says_what_runs_and_what_waits_and_for_how_long(
    db: Database, services: Services, make_group: MakeGroup, wait: Any
) -> None:
    make_group()
    running, _, _ = wait("first"), wait("second"), wait("<b>third</b>")
    groups.claim_group(db, "w")
    groups.set_phase(db, running.id, "step 4 of 16")
    groups.add_image(db, group_id=running.id, index=0, seed=1, sha256="0" * 64, width=64, height=64)
    html = queue.queue_html(services, users.get_user(db, "local"))
    assert "Step 4 of 16 · 1 of 2 images" in html
    assert html.index("first") < html.index("second") < html.index("&lt;b&gt;third")
    assert "1 ahead of it" in html and "2 ahead of it" in html and "3 groups" in html
    assert html.count(" left") == 4
    assert "Cancel all 3 of mine" in html


def test_mine_are_canceled_and_others_stay(db: Database, services: Services, wait: Any) -> None:
    ann = users.add_user(db, "Ann", "artist")
    theirs, mine = wait("local's"), wait("Ann's", ann.id)
    html = queue.queue_html(services, ann)
    assert html.count('data-act="cancel"') == 1
    with pytest.raises(PermissionError, match="asked for by somebody else"):
        queue.cancel(db, theirs.id, ann)
    assert queue.cancel_mine(db, ann) == 1
    assert groups.get_group(db, mine.id).group.state == "canceled"
    assert groups.get_group(db, theirs.id).group.state == "queued"


def test_a_run_that_trains_is_named_with_what_a_group_waits_for(
    db: Database, services: Services, base: Checkpoint
) -> None:
    me = users.get_user(db, "local")
    assert queue.training_words(db) == "" and "Queue empty." in queue.queue_html(services, me)
    run = runs.create_run(
        db, name="x", owner_id="local", parent_checkpoint_id=base.id, config={"num_updates": 9}
    )
    with db.write() as session:
        session.get_one(Run, run.id).state = "running"
    assert "Run 1 trains on this machine. A group waits a few seconds" in queue.queue_html(services, me)


def test_other_work_of_the_engine_is_named_without_what_a_blind_test_hides(
    db: Database, services: Services
) -> None:
    me = users.get_user(db, "local")
    assert "The engine also does" not in queue.queue_html(services, me)
    blind = jobs.request_job(db, "blind", {})
    jobs.request_job(db, "evaluate", {})
    jobs.request_job(db, "<b>new</b>", {})
    jobs.claim_job(db, "w")
    jobs.report_progress(db, blind.id, "secret checkpoint draws", 3, 8)
    html = queue.queue_html(services, me)
    said = ["Images of a blind test · 3 of 8", "An evaluation · waits", "Other work · waits"]
    assert [html.count(one) for one in said] == [1, 1, 1]
    assert html.index(said[0]) < html.index(said[1]) < html.index(said[2])
    assert "secret" not in html and "new" not in html
