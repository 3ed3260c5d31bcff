"""Several processes at one run: what one would have done, whoever started them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from flowgrpo.runs import exits, layout
from flowgrpo.runs.local import dispatching
from flowgrpo.runs.team import Lead, precision
from flowgrpo.world import World
from storage import checkpoints, runs
from storage.engine import Database
from storage.models import Checkpoint, Run, RunState
from storage.run_wishes import request_pause
from tests.runs.helpers import ROOT, begin, new_run, train, wait_for
from tests.runs.test_stage1 import pictures, settings
from tests.runs.test_trainer import said, trainer_of

__all__ = ["pictures"]
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "flowgrpo.runs.train")
ALONE = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
GROUPS = {"group_size": 3, "groups_per_update": 3, "num_steps": 3, "window_size": 1}
"""Three groups for two processes: one has twice as much to do."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def train_in_two(db: Database, run: Run) -> None:
    """One attempt in two processes, as a launcher starts them."""
    in_processes(db, run, *LAUNCH)


def in_processes(db: Database, run: Run, *launcher: str, code: int = 0) -> str:
    """One attempt as a launcher, a module of Python, starts it, which ends with `code`; what was said."""
    command = [sys.executable, *launcher, "--home", str(db.home), "--device", "cpu", run.id, str(run.attempt)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | ALONE, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, done.stderr[-4000:]
    return done.stderr


def weights(db: Database, run: Run, update: int) -> dict[str, torch.Tensor]:
    """All that a checkpoint holds of what learns."""
    folder = layout.checkpoints_folder(db.home, run.id) / f"{update:06d}"
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{file.name} {name}": tensor for file in files for name, tensor in load_file(file).items()}


def completed(db: Database, run: Run) -> Run:
    runs.move(db, run.id, to="completed", from_states=("running",))
    return run


def moved_by(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    return max((left[name].float() - right[name].float()).abs().max().item() for name in left)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["groups", "pictures"])
def test_a_run_of_two_processes_ends_with_the_weights_of_one(
    db: Database, tiny: Checkpoint, request: pytest.FixtureRequest, kind: str
) -> None:
    """Samples and scores are the same; Adam turns the rounding of a gradient's sum into what is left."""
    given = settings(request.getfixturevalue("pictures")) if kind == "pictures" else {}
    changes = {"num_updates": 3, "checkpoint_every": 1, "rollout": GROUPS, **given}
    alone = begin(db, new_run(db, tiny, **changes))
    train(db, alone)
    completed(db, alone)
    shared = begin(db, new_run(db, tiny, **changes))
    train_in_two(db, shared)
    completed(db, shared)
    one, two = weights(db, alone, 1), weights(db, shared, 1)
    assert moved_by(one, two) < 0.02 * moved_by(one, {name: torch.zeros_like(t) for name, t in one.items()})
    numbers = [
        {(m.update, m.name): m.value for m in runs.metrics_since(db, run.id, -1)} for run in (alone, shared)
    ]
    same = ("reward/", "advantage/", "groups/")
    first = {k: v for k, v in numbers[0].items() if k[1].startswith(same) and k[0] <= 1}
    assert {k: numbers[1][k] for k in first} == pytest.approx(first, rel=1e-4, abs=1e-6)
    for update in (1, 2, 3):
        assert numbers[1][update, "groups/samples"] == numbers[0][update, "groups/samples"]
    assert [row.update for row in checkpoints.checkpoints_of_run(db, shared.id)] == [1, 2, 3]


@pytest.mark.timeout(400)
def test_a_resume_with_another_number_of_processes_goes_on_and_says_that_it_is_not_bit_identical(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, num_updates=2, samples=0))
    train(db, run)
    runs.move(db, run.id, to="stopped", from_states=("running",))
    with db.write() as session:
        row = session.get(Run, run.id)
        assert row is not None
        row.config = row.config | {"num_updates": 4}
    runs.resume_run(db, run.id)
    train_in_two(db, begin(db, run))
    assert [row.update for row in checkpoints.checkpoints_of_run(db, run.id)] == [2, 4]
    (sentence,) = said(db, run)
    assert sentence.startswith("From update 2 on the run is shared by 2 processes instead of 1")
    assert "not bit for bit" in sentence


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("ask", "state"), [(runs.request_stop, "stopped"), (request_pause, "paused")])
def test_a_launched_run_that_is_stopped_or_paused_is_that_and_not_failed(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Run], state: RunState
) -> None:
    """The launcher has an exit code of its own when its children leave; the run's is written down."""
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    run = new_run(db, tiny, num_updates=500, samples=0, checkpoint_every=500)
    command = (sys.executable, *LAUNCH)
    with dispatching(db, devices=(), trainer=command, grace_seconds=30.0):
        wait_for(lambda: _update(db, run) >= 1, seconds=120)
        ask(db, run.id)
        wait_for(lambda: runs.get_run(db, run.id).state in runs.AT_REST, seconds=90)
    ended = runs.get_run(db, run.id)
    assert ended.state == state, ended.reason
    assert "can be resumed" in (ended.reason or "")
    assert checkpoints.checkpoints_of_run(db, run.id)
    assert ended.pause_requested_at is None
    said_code = layout.code_file(db.home, run.id).read_text()
    assert int(said_code) == {"stopped": exits.STOPPED, "paused": exits.PAUSED}[state]


def _update(db: Database, run: Run) -> int:
    beat = runs.beat_of(db, run.id)
    return (beat.update or 0) if beat else 0


def test_after_shared_work_broke_the_main_process_leaves_without_a_word(
    db: Database, tiny: Checkpoint
) -> None:
    """The others wait in the midst of that work: whatever is sent would never be heard."""
    lead = Lead(trainer_of(db, begin(db, new_run(db, tiny))).learner)
    lead.world = World(0, 2)
    with pytest.raises(MemoryError), lead.together():
        raise MemoryError
    lead.end()
    lead = Lead(lead.learner)
    lead.world = World(0, 2)
    with pytest.raises(ValueError, match="process group"):
        lead.end()


def test_a_base_is_in_single_precision_on_a_cpu_unless_asked_otherwise() -> None:
    cpu = torch.device("cpu")
    assert precision("auto", cpu) == torch.float32
    assert precision("bfloat16", cpu) == torch.bfloat16


def test_each_process_of_a_host_has_its_own_gpu_and_a_chosen_device_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert World.device("auto") == "cuda:1"
    assert World.device("cpu") == "cpu"


def test_a_run_in_half_precision_learns(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, num_updates=1, samples=0, update={"precision": "bfloat16"}))
    train(db, run)
    kinds = {tensor.dtype for name, tensor in weights(db, run, 1).items() if "lora" in name}
    assert kinds == {torch.float32}


@pytest.mark.parametrize(
    ("name", "processes"), [("one_gpu", 1), ("several_gpus", 2), ("several_hosts", 8), ("fsdp", 2)]
)
def test_accelerate_reads_our_configurations(name: str, processes: int) -> None:
    config = load_config_from_file(str(ROOT / "configs" / f"{name}.yaml"))
    assert config.num_processes == processes
    assert str(config.mixed_precision) == "no"


def test_a_launcher_named_by_the_environment_starts_the_trainer(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = (
        f"{sys.executable} -m accelerate.commands.launch --config_file {ROOT}/configs/one_gpu.yaml --cpu"
    )
    for variable, value in (ALONE | {"FLOWGRPO_LAUNCH": launcher}).items():
        monkeypatch.setenv(variable, value)
    run = new_run(db, tiny, num_updates=1, samples=0)
    with dispatching(db, devices=()):
        wait_for(lambda: runs.get_run(db, run.id).state in runs.AT_REST, seconds=120)
    assert runs.get_run(db, run.id).state == "completed", runs.get_run(db, run.id).reason
