"""A run whose base is shared out over its processes: what one process with all of it would have done."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from torch.distributed.device_mesh import DeviceMesh

from flowgrpo.config import RunConfig
from flowgrpo.manifest import verify
from flowgrpo.runs import exits, layout, sources
from flowgrpo.runs.samples import grid_of
from flowgrpo.runs.team import Lead, make_policy
from flowgrpo.world import SHARDING, World
from storage import checkpoints, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.runs import one_group_alike
from tests.runs.helpers import ROOT, begin, new_run, tiny_config, train
from tests.runs.test_team import GROUPS, completed, in_processes, moved_by, weights
from tests.runs.test_trainer import trainer_of

CONFIG = ROOT / "configs" / "fsdp.yaml"
LAUNCH = ("-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--main_process_port", "0")
ONE_DEAD = {"num_updates": 2, "checkpoint_every": 1, "sample_every": 1, "rollout": GROUPS}
"""Three groups, one of each prompt, and so one dead one, for two processes."""


def numbers(db: Database, run: Run, *names: str) -> dict[tuple[int, str], float]:
    found = runs.metrics_since(db, run.id, -1)
    return {(m.update, m.name): m.value for m in found if m.name.startswith(names)}


def extend(db: Database, run: Run, num_updates: int) -> None:
    """As if a run had been stopped early: it has more updates to come."""
    runs.move(db, run.id, to="stopped", from_states=("running",))
    with db.write() as session:
        row = session.get(Run, run.id)
        assert row is not None
        row.config = row.config | {"num_updates": num_updates}
    runs.resume_run(db, run.id)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sharded_run_with_a_dead_group_ends_as_one_process_would_and_goes_on_unsharded(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "score", one_group_alike.score)
    alone = begin(db, new_run(db, tiny, **ONE_DEAD))
    train(db, alone)
    completed(db, alone)
    run = begin(db, new_run(db, tiny, **ONE_DEAD))
    told = in_processes(db, run, *LAUNCH, "-m", "tests.runs.one_group_alike")
    assert "the base is sharded: one part of 2 is here" in told
    one, two = weights(db, alone, 1), weights(db, run, 1)
    assert moved_by(one, two) < 0.02 * moved_by(one, {name: torch.zeros_like(t) for name, t in one.items()})
    dead = numbers(db, run, "groups/dead_share")
    assert dead == {
        (1, "groups/dead_share"): pytest.approx(1 / 3),
        (2, "groups/dead_share"): pytest.approx(1 / 3),
    }
    kinds = ("held_out/", "reward/", "policy/", "seconds/")
    assert numbers(db, run, *kinds).keys() == numbers(db, alone, *kinds).keys()
    for update in (0, 1, 2):
        (view,) = grid_of(db, run.id, update)
        assert len(view.images) == 2
    extend(db, run, 3)
    train(db, begin(db, run))
    assert [row.update for row in checkpoints.checkpoints_of_run(db, run.id)] == [1, 2, 3]
    for update in (1, 2, 3):
        verify(layout.checkpoints_folder(db.home, run.id) / f"{update:06d}")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sharded_run_that_runs_out_of_memory_in_a_grid_ends_and_leaves_nobody_waiting(
    db: Database, tiny: Checkpoint
) -> None:
    """The main process draws, the other takes part: it hangs in the broken call until it is ended."""
    run = begin(db, new_run(db, tiny, num_updates=1))
    in_processes(db, run, *LAUNCH, "-m", "tests.runs.full_in_a_grid", code=1)
    assert layout.code_file(db.home, run.id).read_text() == str(exits.OUT_OF_MEMORY)
    assert "ran out of memory" in layout.reason_file(db.home, run.id).read_text()


def test_a_sharded_base_has_an_adapter_and_nothing_is_loaded_to_find_that_out() -> None:
    changes = {"lora": None, "algorithm": {"name": "sft", "folder": "none"}}
    config = RunConfig.model_validate(tiny_config(**changes, update={"kl_weight": 0}))
    sharded = World(0, 2)
    sharded.mesh = cast(DeviceMesh, object())
    with pytest.raises(ValueError, match="train an adapter, or launch with"):
        make_policy(config, "nowhere", {}, torch.device("cpu"), sharded)


def test_after_a_network_call_broke_the_main_process_leaves_without_a_word(
    db: Database, tiny: Checkpoint
) -> None:
    """As in a sample grid that it draws alone: the others hang in the same call and hear nothing."""
    said: list[object] = []

    class Heard(World):
        def share(self, value: object = None) -> object:
            said.append(value)
            return value

    lead = Lead(trainer_of(db, begin(db, new_run(db, tiny))).learner)
    lead.world = Heard(0, 2)
    lead.end()
    assert said == [None]
    lead.world.is_calling = True
    lead.end()
    assert said == [None]


def test_our_configuration_has_every_setting_of_sharding_and_no_other() -> None:
    config = load_config_from_file(str(CONFIG))
    assert config.distributed_type == "FSDP"
    assert {name: str(value).lower() for name, value in config.fsdp_config.items()} == SHARDING
