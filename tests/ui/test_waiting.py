"""What a comparison waits for: how much, where it stands, how long; cancel ends only what it asked for."""

from __future__ import annotations

from flowgrpo.config import SamplingConfig
from storage import groups
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint, GroupKind
from tests.ui.conftest import MakeGroup
from ui import waiting
from ui.services import Services


def asked(db: Database, base: Checkpoint, kind: GroupKind = "compare") -> GroupView:
    config = SamplingConfig(num_steps=4).model_dump()
    group = groups.request_group(
        db, prompt="p", checkpoint_id=base.id, config=config, seeds=[1, 2], kind=kind
    )
    return groups.get_group(db, group.id)


def test_nothing_waits_where_all_is_done(services: Services, make_group: MakeGroup) -> None:
    assert waiting.work_of(services, [make_group()]) == waiting.Work(0, 0, "")


def test_each_group_counts_once_and_the_first_one_says_where_it_stands(
    services: Services, db: Database, base: Checkpoint
) -> None:
    other = asked(db, base, "studio")
    first, second = asked(db, base), asked(db, base)
    found = waiting.work_of(services, [second, first, second])
    assert (found.groups, found.images) == (2, 4)
    assert found.words == "Waiting: 1 ahead of it in the queue"
    groups.claim_group(db, "w")
    groups.cancel_group(db, other.group.id)
    running = groups.claim_group(db, "w")
    assert running is not None and running.id == first.group.id
    groups.set_phase(db, running.id, "sampling, step 2 of 4")
    views = [groups.get_group(db, view.group.id) for view in (first, second)]
    assert waiting.work_of(services, views).words == "Sampling, step 2 of 4"


def test_cancel_leaves_what_the_studio_asked_for(services: Services, db: Database, base: Checkpoint) -> None:
    mine, its = asked(db, base), asked(db, base, "studio")
    assert waiting.cancel(services, [mine, its]) == 1
    states = [groups.get_group(db, view.group.id).group.state for view in (mine, its)]
    assert states == ["canceled", "queued"]
