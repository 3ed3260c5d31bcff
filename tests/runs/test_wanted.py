"""A run that is held to images somebody wants, instead of to the base's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from flowgrpo.config import RunConfig
from flowgrpo.imagefolder import read_folder
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rewards.wanted import NOTHING_WANTED
from flowgrpo.runs import roles
from flowgrpo.runs.plan import Wishes, make_plan
from flowgrpo.runs.references import of_folder, portrait_of
from flowgrpo.runs.samples import grid_of
from flowgrpo.runs.sources import Groups
from flowgrpo.runs.wanted import hold_to_wanted, wanted_images
from flowgrpo.runs.worker import WEIGHTS
from storage.engine import Database
from storage.models import Checkpoint
from tests.given import Given
from tests.runs.helpers import tiny_config
from tests.runs.test_roles import bright, first_rollout, metrics_of, near, trainer_with
from tests.runs.test_trainer import said

ALONE = {"reward_weights": {"lpips_ref": 1.0}}
BESIDE = {"reward_weights": {"verifier": 0.5, "lpips_ref": 0.5}}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def folder_of(folder: Path, *prompts: str) -> Path:
    """A render of each prompt with the prompt as its caption."""
    folder.mkdir(exist_ok=True)
    for index, prompt in enumerate(prompts):
        image = portrait_of(prompt)
        assert image is not None
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(prompt)
    return folder


def reference() -> Given:
    return Given(near, "lpips_ref", "reference")


def config(folder: Path, **changes: Any) -> RunConfig:
    return RunConfig.model_validate(tiny_config(references=str(folder), **changes))


def held(config: RunConfig, *rewards: Given) -> RewardStack:
    stack = RewardStack({one.name: one for one in (Given(bright, "verifier"), *rewards)})
    hold_to_wanted(config, stack)
    return stack


# What a run learns from


def test_a_run_is_scored_by_the_nearest_wanted_image_and_may_learn_from_that_alone(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prompts = ["red hair", "glasses"]
    folder = folder_of(tmp_path / "wanted", *prompts, "red hair")
    one = trainer_with(
        db, tiny, monkeypatch, reference(), references=str(folder), prompts=prompts, samples=2, **ALONE
    )
    source = one.gatherer.source
    assert isinstance(source, Groups) and not source.draws_anchors
    experience = first_rollout(one)
    assert experience.columns is not None
    wanted = wanted_images(read_folder(folder), prompts, (64, 64))
    for row, rollout in enumerate(experience.rollouts):
        assert rollout.anchor is None
        expected = [distances(rollout.images_uint8, image) for image in wanted[rollout.prompts[0]]]
        assert torch.allclose(experience.columns.rewards["lpips_ref"][row], torch.stack(expected).amax(0))
    assert (one.position.calibrated_stds or {})["lpips_ref"] == pytest.approx(usual_std(one), rel=1e-4)
    assert one.position.ceilings["lpips_ref"] < 0  # a reward like any other, with one
    assert experience.metrics["reward_std/lpips_ref"] > 0
    assert experience.metrics["groups/dead_share"] == 0


def distances(images: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    references = wanted[None].expand_as(images)
    return near(ScoreBatch(images, ["x"] * len(images), [0] * len(images), references)).values


def usual_std(one: Any) -> float:
    """The median of the stds within six groups of the base, which are drawn again."""
    with one.turns.turn(), torch.no_grad():
        groups = one.gatherer.source.rollouts(0, 6, 32, lambda _: None, on_base=True)
    columns = one.gatherer.source.score(groups, 6).rewards["lpips_ref"]
    return float(columns.double().std(1).median())


def test_prompts_without_a_wanted_image_have_no_score_and_one_warning_and_the_run_goes_on(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "wanted", "red hair", "glasses")
    changes = BESIDE | {"references": str(folder), "samples": 2, "sample_every": 1, "num_updates": 3}
    one = trainer_with(db, tiny, monkeypatch, reference(), **changes)
    one.train()
    gaps = [sentence for sentence in said(db, one.run) if "lpips_ref" in sentence]
    assert gaps == [f"lpips_ref left images without a score: {NOTHING_WANTED}."]
    assert said(db, one.run, "alarm") == []
    numbers = [metrics_of(db, one.run, update) for update in range(4)]
    assert all(update.get("failed_share/lpips_ref", 0.0) == 0 for update in numbers)
    assert any(0 < update.get("unscored_share/lpips_ref", 0) < 1 for update in numbers)
    assert not any("held_out/lpips_ref" in update for update in numbers)  # of "blue hair" nothing is known
    scores = [image.scores["lpips_ref"] for view in grid_of(db, one.run.id, 3) for image in view.images]
    assert {(score.value, score.reason) for score in scores} == {(None, NOTHING_WANTED)}


def test_a_held_out_prompt_with_a_wanted_image_is_scored_on_the_grids(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "wanted", "red hair", "green hair", "glasses", "blue hair")
    one = trainer_with(
        db, tiny, monkeypatch, reference(), references=str(folder), monitors=["lpips_ref"], samples=2
    )
    one.train()
    assert -1 < metrics_of(db, one.run, 2)["held_out/lpips_ref"] < 0
    assert "monitor/lpips_ref" in metrics_of(db, one.run, 1)


# Which images


def test_wanted_images_are_cut_as_evaluations_cut_them_and_all_of_a_prompt_count(tmp_path: Path) -> None:
    for name, colour, caption in (("a", "red", "x"), ("b", "blue", "y"), ("c", "green", "x")):
        image = Image.new("RGB", (100, 60), colour)
        image.paste((9, 9, 9), (0, 0, 30, 60))
        image.save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f" {caption}\n")
    found = wanted_images(read_folder(tmp_path), ["x", "y", "z"], (32, 16))
    assert {prompt: tuple(images.shape) for prompt, images in found.items()} == {
        "x": (2, 3, 16, 32), "y": (1, 3, 16, 32),
    }  # fmt: skip
    meant = of_folder(tmp_path, ["x", "y"], (32, 16), lambda *_: None).meant
    assert torch.equal(found["x"][0], meant[0])
    assert torch.equal(found["y"][0], meant[1])


def test_one_image_is_enough(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "wanted", "red hair")
    stack = held(config(folder, prompts=["red hair"], **ALONE), reference())
    assert roles.kinds_of(stack) == {"verifier": "pointwise", "lpips_ref": "pointwise"}
    roles.check(config(folder, prompts=["red hair"], **ALONE), stack)


# Refusals


def test_a_folder_that_no_prompt_is_a_caption_of_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "wanted", "Red hair", "blue hair")  # the second is held out
    sentence = (
        f"no caption in {folder} is a prompt of this run: expected images whose caption (a.txt beside a.png) "
        'is a prompt, word for word. The first prompt is "red hair", the first caption "Red hair". Change '
        "captions or prompts, or leave references out to hold images to the base's of the same seed"
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        held(config(folder, **BESIDE), reference())


def test_images_without_captions_are_wanted_for_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="the first caption is missing"):
        held(config(tmp_path, **BESIDE), reference())


def test_a_run_of_nothing_else_needs_a_wanted_image_for_every_prompt(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "wanted", "red hair", "glasses")
    with pytest.raises(ValueError, match='1 of 3 prompts, such as "green hair", have no wanted image'):
        held(config(folder, **ALONE), reference())
    people: dict[str, Any] = {"people": {"timeout_minutes": 1}}
    held(config(folder, **ALONE, **people), reference())


@pytest.mark.parametrize("names", [(), ("verifier",)])
def test_references_that_no_reward_looks_at_are_refused(tmp_path: Path, names: Sequence[str]) -> None:
    rewards = [Given(bright, name) for name in names]
    weights = {"reward_weights": {"verifier": 1.0}}
    with pytest.raises(ValueError, match="no reward of this run holds images to them: give lpips_ref"):
        held(config(folder_of(tmp_path / "wanted", "red hair"), **weights), reference(), *rewards)


def test_a_folder_that_is_not_there_or_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="there is no data folder"):
        held(config(tmp_path / "none", **BESIDE), reference())
    elsewhere = folder_of(tmp_path / "elsewhere", "red hair")
    folder = folder_of(tmp_path / "wanted", "red hair")
    (folder / "link.png").symlink_to(elsewhere / "0.png")
    with pytest.raises(ValueError, match="links lead out of the data folder"):
        held(config(folder, **BESIDE), reference())


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": {"name": "sft", "folder": "x"}},
        {"algorithm": {"name": "nft"}, "ratings": {"snapshot": "x"}},
    ],
)
def test_a_run_that_scores_no_images_has_no_references(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="this run scores no images"):
        config(tmp_path, **changes)


def test_an_anchored_run_of_nothing_else_is_told_of_wanted_images() -> None:
    alone = RunConfig.model_validate(tiny_config(**ALONE))
    with pytest.raises(ValueError, match="name a folder of wanted images in references"):
        roles.check(alone, RewardStack({"lpips_ref": reference()}))


def test_a_dry_run_reads_the_folder(db: Database, tiny: Checkpoint, tmp_path: Path) -> None:
    folder, weights = folder_of(tmp_path / "wanted", "red hair"), {"perceptual_ref": 1.0, "diversity": 1.0}
    plan = make_plan(
        db, config(folder, reward_weights=weights), tiny.name, WEIGHTS, Wishes(rate=1.0, probes=True)
    )
    assert plan.measured is not None
    with pytest.raises(ValueError, match="no caption in"):
        make_plan(
            db, config(folder, reward_weights=weights, prompts=["glasses"]), tiny.name, WEIGHTS, Wishes()
        )
