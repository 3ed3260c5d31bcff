from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from flowgrpo import failpoints, manifest
from flowgrpo.advantages import combine
from flowgrpo.checkpoint import (
    DamagedCheckpointError,
    load_checkpoint,
    newest_valid,
    remove_leftovers,
    save_checkpoint,
    verify,
)
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.update import update
from tests.flowgrpo.conftest import a_group, same, state_of

ROOT = Path(__file__).parents[2]
FILES = ["adapter/ema.safetensors", "adapter/raw.safetensors", "adapter_config.json", "optimizer.safetensors",
         "progress.json", "MANIFEST.json"]  # fmt: skip


def learn(learner: Learner) -> None:
    rewards = torch.rand(1, 6, generator=torch.Generator().manual_seed(learner.update))
    for _ in update(learner, [a_group(learner.policy)], combine({"r": rewards}, {"r": 1.0}, {"r": 0.3})):
        pass


@pytest.fixture
def learner(tuned: Policy) -> Learner:
    learner = Learner(tuned, UpdateConfig())
    learn(learner)
    return learner


@pytest.fixture
def saved(learner: Learner, tmp_path: Path) -> Path:
    save_checkpoint(
        tmp_path / "checkpoints" / "000001", learner, {"update": 1, "note": "first"}, config_hash="abc"
    )
    return tmp_path / "checkpoints" / "000001"


def in_a_process(
    pipeline: Path, checkpoints: Path, updates: int, **env: str
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "tests.flowgrpo.train_some",
        str(pipeline),
        str(checkpoints),
        str(updates),
    ]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


def test_four_updates_are_two_and_two_more_in_a_new_process(tiny_folder: Path, tmp_path: Path) -> None:
    whole = in_a_process(tiny_folder, tmp_path / "whole", 4)
    in_a_process(tiny_folder, tmp_path / "parts", 2)
    parts = in_a_process(tiny_folder, tmp_path / "parts", 2)
    assert len(whole.stdout) == 64, whole.stderr
    assert parts.stdout == whole.stdout
    assert {p.name for p in (tmp_path / "parts").iterdir()} == {f"{n:06d}" for n in range(1, 5)}
    for name in FILES[:4]:
        one, other = (tmp_path / side / "000004" / name for side in ("whole", "parts"))
        assert manifest.sha256_of(one) == manifest.sha256_of(other)


WRITTEN = ["adapter_config.json", "adapter/raw", "adapter/ema", "optimizer.safetensors", "progress.json"]
STEPS = [
    "folder",
    "files",
    *(f"write.{name}" for name in WRITTEN),
    *(f"sync.{name}" for name in sorted(FILES[:-1])),
    "sync.adapter",
    "manifest",
    "sync_manifest",
    "sync_folder",
    "rename",
    "sync_parent",
    "done",
]
"""Every place at which a commit may be cut off."""
COMMITTED = ("sync_parent", "done")


def in_a_fork(work: Callable[[], object], fault: str) -> int:
    """Exit code of a fork of this process that does the work with a fault in its environment."""
    child = os.fork()
    if child == 0:
        os.environ["FAILPOINT"] = fault
        failpoints.passes.clear()
        with suppress(OSError):
            work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_every_step_of_a_commit_has_a_failpoint(saved: Path, learner: Learner) -> None:
    learn(learner)
    failpoints.passes.clear()
    save_checkpoint(saved.parent / "000002", learner, {"update": 2})
    passed = [name.removeprefix("ckpt.") for name in failpoints.passes]
    assert sorted(passed) == sorted(STEPS)
    assert set(failpoints.passes.values()) == {1}


@pytest.mark.parametrize("fault", ["kill", "enospc"])
def test_a_commit_that_is_cut_off_anywhere_leaves_a_whole_checkpoint_and_can_be_made_again(
    fault: str, saved: Path, learner: Learner, tmp_path: Path
) -> None:
    """At each step: the newest is whole, what stays half done is cleared, and the commit that follows has the
    bytes of one that was never disturbed."""
    learn(learner)
    save_checkpoint(tmp_path / "undisturbed" / "000002", learner, {"update": 2})
    wanted = verify(tmp_path / "undisturbed" / "000002")["files"]
    for step in STEPS:
        code = in_a_fork(
            lambda: save_checkpoint(saved.parent / "000002", learner, {"update": 2}), f"ckpt.{step}:{fault}"
        )
        assert code == (-signal.SIGKILL if fault == "kill" else 0), step
        newest, warnings = newest_valid(saved.parent)
        assert newest is not None
        assert (newest.name, warnings) == ("000002" if step in COMMITTED else "000001", []), step
        was_open = fault == "kill" and step not in ("folder", *COMMITTED)
        assert len(remove_leftovers(saved.parent)) == was_open, step
        save_checkpoint(saved.parent / "000002", learner, {"update": 2})
        assert verify(saved.parent / "000002")["files"] == wanted, step
        shutil.rmtree(saved.parent / "000002")


def test_a_kill_while_a_damaged_checkpoint_is_replaced_loses_nothing_but_it(
    saved: Path, learner: Learner
) -> None:
    learn(learner)
    second = saved.parent / "000002"
    for step in ("replace", "rename"):
        save_checkpoint(second, learner, {"update": 2})
        (second / "progress.json").unlink()
        code = in_a_fork(lambda: save_checkpoint(second, learner, {"update": 2}), f"ckpt.{step}:kill")
        assert code == -signal.SIGKILL
        assert newest_valid(saved.parent)[0] == saved
        remove_leftovers(saved.parent)
    save_checkpoint(second, learner, {"update": 2})
    assert newest_valid(saved.parent) == (second, [])


def test_a_fault_that_is_misspelt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILPOINT", "here:kil")
    monkeypatch.setattr(failpoints, "passes", Counter())
    with pytest.raises(ValueError, match="expects NAME:kill"):
        failpoints.failpoint("here")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_checkpoint_is_found_out(saved: Path, learner: Learner, name: str) -> None:
    """Swapped with the same file of its neighbour: both whole files, neither where it belongs."""
    learn(learner)
    save_checkpoint(saved.parent / "000002", learner, {"update": 2})
    ours, theirs = saved / name, saved.parent / "000002" / name
    if ours.read_bytes() == theirs.read_bytes():
        assert name == "adapter_config.json"  # the same settings: there is nothing to find
        return
    kept = ours.read_bytes()
    ours.write_bytes(theirs.read_bytes())
    theirs.write_bytes(kept)
    newest, warnings = newest_valid(saved.parent)
    assert newest is None
    assert len(warnings) == 2


def test_two_whole_checkpoints_that_changed_places_are_found_out(saved: Path, learner: Learner) -> None:
    learn(learner)
    save_checkpoint(saved.parent / "000002", learner, {"update": 2})
    (saved.parent / "000002").rename(saved.parent / "aside")
    saved.rename(saved.parent / "000002")
    newest, (warning,) = newest_valid(saved.parent)
    assert newest is None
    assert warning == "000002: it holds the files of 000001; use an older checkpoint"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "empty"])
def test_damage_to_any_file_is_always_found(saved: Path, name: str, damage: str) -> None:
    content = (saved / name).read_bytes()
    places = random.Random(name + damage)
    for _ in range(1 if damage in ("delete", "empty") else 25):
        at = places.randrange(len(content))
        if damage == "delete":
            (saved / name).unlink()
        elif damage == "flip":
            flipped = content[at] ^ (1 << places.randrange(8))
            (saved / name).write_bytes(content[:at] + bytes([flipped]) + content[at + 1 :])
        else:
            (saved / name).write_bytes(content[:at] if damage == "truncate" else b"")
        with pytest.raises(DamagedCheckpointError, match="use an older checkpoint"):
            verify(saved)
    newest, warnings = newest_valid(saved.parent)
    assert newest is None
    assert len(warnings) == 1


def test_a_damaged_checkpoint_falls_back_to_the_next_older_with_a_warning(
    saved: Path, learner: Learner
) -> None:
    learn(learner)
    save_checkpoint(saved.parent / "000002", learner, {"update": 2})
    (saved.parent / "000002" / "optimizer.safetensors").unlink()
    newest, (warning,) = newest_valid(saved.parent)
    assert newest == saved
    assert warning == "000002: optimizer.safetensors is missing; use an older checkpoint"


def test_a_damaged_checkpoint_is_not_partly_used(saved: Path, learner: Learner) -> None:
    learn(learner)
    before = state_of(learner.policy)
    (saved / "optimizer.safetensors").unlink()
    with pytest.raises(DamagedCheckpointError):
        load_checkpoint(saved, learner)
    assert same(before, state_of(learner.policy))


def test_a_loaded_learner_is_the_saved_one(saved: Path, learner: Learner, tiny_folder: Path) -> None:
    policy = load_policy(tiny_folder)
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=77)
    other = Learner(policy, UpdateConfig())
    assert load_checkpoint(saved, other) == {"update": 1, "note": "first"}
    assert (other.update, other.skipped) == (1, 0)
    learn(learner)
    learn(other)
    assert same(state_of(learner.policy), state_of(policy))
    assert same(learner.ema, other.ema)
    assert same(learner.optimizer_tensors(), other.optimizer_tensors())


def test_a_checkpoint_before_the_first_update_can_be_saved_and_loaded(tuned: Policy, tmp_path: Path) -> None:
    learner = Learner(tuned, UpdateConfig())
    save_checkpoint(tmp_path / "000000", learner, {})
    assert load_checkpoint(tmp_path / "000000", learner) == {}
    assert learner.optimizer_tensors() == {}


@pytest.mark.parametrize("where", ["parameters", "ema", "optimizer"])
def test_numbers_that_are_not_finite_are_never_committed(
    learner: Learner, tmp_path: Path, where: str
) -> None:
    tensors = learner.optimizer_tensors() if where == "optimizer" else getattr(learner, where)
    with torch.no_grad():
        next(iter(tensors.values())).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite, so no checkpoint was made"):
        save_checkpoint(tmp_path / "000001", learner, {})
    assert list(tmp_path.iterdir()) == []


def test_progress_that_is_not_finite_is_never_committed(learner: Learner, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        save_checkpoint(tmp_path / "000001", learner, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_saving_again_is_the_same_checkpoint(saved: Path, learner: Learner) -> None:
    before = manifest.sha256_of(saved / "MANIFEST.json")
    assert save_checkpoint(saved, learner, {"update": 1}) == before
    (saved / "progress.json").unlink()
    save_checkpoint(saved, learner, {"update": 1})
    assert verify(saved)["update"] == 1


def test_the_manifest_names_config_parent_and_attempt(learner: Learner, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "000001", learner, {}, config_hash="c", parent="p", attempt=3)
    facts = verify(tmp_path / "000001")
    assert (facts["config_hash"], facts["parent"], facts["attempt"]) == ("c", "p", 3)
    assert sorted(facts["files"]) == sorted(FILES[:-1])


def test_a_full_disk_leaves_no_trace(saved: Path, learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved.parent / "000002", learner, {})
    assert [path.name for path in saved.parent.iterdir()] == ["000001"]


def test_another_adapter_is_refused_with_a_sentence(saved: Path, tiny_folder: Path) -> None:
    policy = load_policy(tiny_folder)
    policy.attach_lora(LoraConfig(rank=2))
    with pytest.raises(ValueError, match="rank=4"):
        load_checkpoint(saved, Learner(policy, UpdateConfig()))


def test_no_checkpoint_at_all_is_no_error(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "nothing") == (None, [])


def test_a_checkpoint_can_be_verified_without_torch(saved: Path) -> None:
    code = "import sys; from pathlib import Path; from flowgrpo.manifest import verify; "
    code += "verify(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(saved)], cwd=ROOT, check=True)


def test_a_checkpoint_can_be_moved(saved: Path, tmp_path: Path, learner: Learner) -> None:
    shutil.copytree(saved, tmp_path / "elsewhere")
    assert load_checkpoint(tmp_path / "elsewhere", learner)["update"] == 1
