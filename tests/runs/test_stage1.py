"""SFT as a run: from a folder of captioned images to a checkpoint that draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flowgrpo import whole
from flowgrpo.runs import exits, layout
from flowgrpo.runs.shelf import PolicyShelf
from flowgrpo.runs.sources import Pictures
from flowgrpo.runs.train import run_config
from storage import checkpoints, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.runs.helpers import adapter_hashes, begin, new_run, train
from tests.runs.test_trainer import begin_again, trainer_of

NUM_IMAGES = 6


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Red squares and blue ones, wide ones among them, each with its tags."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(NUM_IMAGES):
        size = (64, 144, 3) if index % 3 == 2 else (80, 80, 3)
        colour = [(220, 30, 30), (30, 30, 220)][index % 2]
        pixels = np.clip(np.full(size, colour) + rng.normal(0, 8, size), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text("red hair, solo" if index % 2 == 0 else "blue hair, solo")
    return folder


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    algorithm = {"name": "sft", "folder": str(folder), "batch_size": 4, **changes.pop("algorithm", {})}
    return {"algorithm": algorithm, "reward_weights": {}, **changes}


def quiet(phase: str) -> None:
    del phase


def stage1(db: Database, base: Checkpoint, folder: Path, **changes: Any) -> Run:
    return begin(db, new_run(db, base, **settings(folder, **changes)))


def test_a_run_learns_from_a_folder_and_its_checkpoint_draws(
    db: Database, tiny: Checkpoint, pictures: Path
) -> None:
    run = stage1(db, tiny, pictures)
    train(db, run)
    made = checkpoints.checkpoints_of_run(db, run.id)
    assert [checkpoint.update for checkpoint in made] == [2, 4]
    losses = [m.value for m in runs.metrics_since(db, run.id, 0) if m.name == "policy/loss"]
    assert len(losses) == 4
    assert all(loss > 0 for loss in losses)
    assert not [event for event in runs.events(db, run.id) if event.kind == "alarm"]
    policy = PolicyShelf(db, torch.device("cpu")).get(made[-1])
    assert policy.schedule is not None


def test_stage_1_lowers_its_loss_on_the_images_that_it_learns(
    db: Database, tiny: Checkpoint, pictures: Path
) -> None:
    rate = {"learning_rate": 1e-2, "kl_weight": 0.0, "ema_decay": 0.0}
    run = stage1(db, tiny, pictures, update=rate, num_updates=40, checkpoint_every=40, samples=0)
    train(db, run)
    losses = [m.value for m in runs.metrics_since(db, run.id, 0) if m.name == "policy/loss"]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_the_whole_network_learns_where_no_adapter_is_asked_for(
    db: Database, tiny: Checkpoint, pictures: Path
) -> None:
    run = stage1(db, tiny, pictures, lora=None, update={"kl_weight": 0.0}, num_updates=2)
    train(db, run)
    (made,) = checkpoints.checkpoints_of_run(db, run.id)
    assert made.path is not None
    assert whole.is_whole(db.home / made.path)
    shelf = PolicyShelf(db, torch.device("cpu"))
    theirs = {n: p.detach().clone() for n, p in shelf.get(made).network.named_parameters()}
    base = shelf.get(tiny).network
    assert any(not torch.equal(theirs[name], p) for name, p in base.named_parameters())


def test_stage_1_stopped_and_resumed_ends_with_the_very_same_bytes(
    db: Database, tiny: Checkpoint, pictures: Path
) -> None:
    uninterrupted = stage1(db, tiny, pictures)
    train(db, uninterrupted)
    runs.move(db, uninterrupted.id, to="completed", from_states=("running",))
    run = stage1(db, tiny, pictures)
    trainer = trainer_of(db, run)
    gather = trainer.gatherer.gather

    def stopping(number: int) -> Any:
        if number == 3:
            trainer.stop.set()
        return gather(number)

    trainer.gatherer.gather = stopping  # type: ignore[method-assign]
    with pytest.raises(exits.EndedError, match="Stopped at update 2"):
        trainer.train()
    trainer_of(db, begin_again(db, run)).train()
    assert adapter_hashes(db, run, 4) == adapter_hashes(db, uninterrupted, 4)


def test_batches_have_the_shapes_of_their_images_and_dropped_captions_are_unconditional(
    db: Database, tiny: Checkpoint, pictures: Path
) -> None:
    trainer = trainer_of(db, stage1(db, tiny, pictures, algorithm={"tags": {"caption_dropout": 1.0}}))
    source = trainer.gatherer.source
    assert isinstance(source, Pictures)
    drawn = [source.rollouts(number, 1, 4, quiet)[0] for number in (1, 2)]
    assert {tuple(rollout.images.shape[2:]) for rollout in drawn} == {(64, 64), (44, 88)}
    policy = trainer.policy
    for rollout in drawn:
        height, width = rollout.images.shape[2:]
        asked = policy.encode([""] * len(rollout.seeds), guided=True, width=width, height=height)
        for name in ("words", "pooled"):
            if name in rollout.conditioning.positive:
                assert torch.equal(rollout.conditioning.positive[name], asked.unconditional()[name])
        assert (rollout.conditioning.positive["time_ids"][:, 4:] == torch.tensor([height, width])).all()


def test_sdxl_is_told_what_was_cut_off(db: Database, tiny: Checkpoint, pictures: Path) -> None:
    source = trainer_of(db, stage1(db, tiny, pictures)).gatherer.source
    assert isinstance(source, Pictures)
    wide = next(r for n in (1, 2) for r in source.rollouts(n, 1, 4, quiet) if r.images.shape[3] == 88)
    ids = wide.conditioning.positive["time_ids"]
    assert ids[0].tolist() == [64.0, 144.0, 0.0, 6.0, 44.0, 88.0]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda folder: [path.unlink() for path in folder.iterdir()], "has no images"),
        (lambda folder: (folder / "0.txt").unlink(), r"no caption.* belongs to 1 file \(0.png\)"),
        (lambda folder: (folder / "1.png").unlink(), r"no image belongs to 1 file \(1.txt\)"),
        (lambda folder: (folder / "0.png").write_bytes(b"x"), "1 image of .* cannot be used"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_learned_from_ends_the_run_in_a_sentence(
    db: Database, tiny: Checkpoint, pictures: Path, spoil: Any, expected: str
) -> None:
    spoil(pictures)
    with pytest.raises(exits.EndedError, match=expected) as ended:
        train(db, stage1(db, tiny, pictures))
    assert ended.value.code == exits.BAD_CONFIG


def test_a_folder_that_is_not_there_ends_the_run_in_a_sentence(db: Database, tiny: Checkpoint) -> None:
    with pytest.raises(exits.EndedError, match="there is no data folder"):
        train(db, stage1(db, tiny, Path("/nowhere")))


def test_a_whole_network_has_no_base_to_stay_close_to() -> None:
    document = settings(Path("x"), prompts=["a"], lora=None)
    with pytest.raises(ValueError, match=r"set update\.kl_weight to 0"):
        run_config(Run(config=document))


def test_the_run_folder_keeps_the_settings(db: Database, tiny: Checkpoint, pictures: Path) -> None:
    run = stage1(db, tiny, pictures, num_updates=1, samples=0)
    train(db, run)
    assert str(pictures) in layout.config_file(db.home, run.id).read_text()
