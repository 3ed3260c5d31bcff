"""The reward `human` says what its head says, survives the disk, and refuses another eye."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flowgrpo.preferences import head
from flowgrpo.preferences.head import Head
from flowgrpo.preferences.votes import Comparison
from flowgrpo.rewards import human, registry
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.encoders import clip_in_folder
from flowgrpo.rewards.eye import Eye
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import load_stack

SIZE = 4


@pytest.fixture
def eye(weights: Path) -> Eye:
    return Eye(clip_in_folder(weights / "clip"))


@pytest.fixture
def batch(renders: tuple[torch.Tensor, list[str]]) -> ScoreBatch:
    images = renders[0][:24]
    return ScoreBatch(images, ["portrait"] * len(images), [row // SIZE for row in range(len(images))])


@pytest.fixture
def redness(batch: ScoreBatch) -> torch.Tensor:
    unit = batch.images.float() / 255
    return (unit[:, 0] - unit[:, 1:].mean(1)).flatten(1).mean(1)


@pytest.fixture
def taste(eye: Eye, batch: ScoreBatch, redness: torch.Tensor) -> Head:
    """Of somebody who likes red."""
    seen, blocks = eye.see(batch)
    votes = [
        Comparison(str(a // SIZE), f"prompt {a // SIZE}", "ann", str(a), str(b), 0.5)
        for a in range(len(batch))
        for b in range(len(batch))
        if a // SIZE == b // SIZE and redness[a] > redness[b]
    ]
    groups = [str(row // SIZE) for row in range(len(batch))]
    return head.fit(seen, blocks, head.data_of(votes, {str(row): row for row in range(len(batch))}, groups))


def test_who_likes_red_is_seen_to_like_red(
    eye: Eye, taste: Head, batch: ScoreBatch, redness: torch.Tensor
) -> None:
    liked = human.HumanReward(taste, eye).score(batch).values
    assert np.corrcoef(liked.numpy(), redness.numpy())[0, 1] > 0.8


def test_the_eye_sees_each_image_alone_and_the_same_in_any_order(eye: Eye, batch: ScoreBatch) -> None:
    whole, widths = eye.see(batch)
    assert whole.shape == (len(batch), sum(widths))
    order = list(reversed(range(len(batch))))
    turned = ScoreBatch(batch.images[order], batch.prompts, batch.groups)
    assert np.allclose(eye.see(turned)[0], whole[order], atol=1e-5)
    one = ScoreBatch(batch.images[:1], batch.prompts[:1], [0])
    assert np.allclose(eye.see(one)[0], whole[:1], atol=1e-5)


def test_a_head_that_was_written_says_the_same(
    eye: Eye, taste: Head, batch: ScoreBatch, tmp_path: Path
) -> None:
    path = tmp_path / "heads" / "one.safetensors"
    human.save_head(taste, eye.name, path)
    read, name = human.load_head(path)
    assert name == eye.name and read.version == taste.version
    assert (read.variances, read.spread, read.basis.widths) == (
        taste.variances,
        taste.spread,
        taste.basis.widths,
    )
    seen, _ = eye.see(batch)
    assert np.array_equal(read.utility(seen), taste.utility(seen))
    assert np.array_equal(read.covariance, taste.covariance)


def test_the_registry_loads_it_where_a_head_is_and_says_what_is_missing_where_none_is(
    eye: Eye, taste: Head, batch: ScoreBatch, weights: Path, tmp_path: Path
) -> None:
    none = load_stack(["human"], weights)
    assert "rate some groups" in none.unavailable["human"]
    assert registry.card("human", Options(weights))["state"] == "unavailable"
    path = tmp_path / "one.safetensors"
    human.save_head(taste, eye.name, path)
    options = Options(weights, head=path)
    assert registry.card("human", options)["state"] == "here"
    scores = load_stack(["human"], weights, options=options).score(batch)["human"]
    assert torch.equal(scores.values, human.HumanReward(taste, eye).score(batch).values)


def test_a_head_of_another_eye_is_refused(taste: Head, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    human.save_head(taste, "eye1 another", path)
    stack = load_stack(["human"], weights, options=Options(weights, head=path))
    assert "fit it again" in stack.unavailable["human"]


def test_what_is_no_head_is_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match="no preference head"):
        human.load_head(weights / "verifier" / "model.safetensors")
    with pytest.raises(LookupError, match="no file"):
        human.load_head(weights / "nothing.safetensors")
