from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.hps import HpsReward
from tests.tiny_rewards import tiny_hps


@pytest.fixture(scope="module")
def reward(tiny_openai: Path, tmp_path_factory: pytest.TempPathFactory) -> HpsReward:
    return tiny_hps(tiny_openai, tmp_path_factory.mktemp("hps"))


def test_the_value_is_the_cosine_of_the_checkpoints_embeddings(
    reward: HpsReward, renders: tuple[Tensor, list[str]]
) -> None:
    images, prompts = renders[0][:4], renders[1][:4]
    values = reward.score(ScoreBatch(images, prompts, [0] * 4)).values
    with torch.no_grad():
        text = F.normalize(reward.encoder.model.encode_text(open_clip.tokenize(prompts)), dim=1)
    torch.testing.assert_close(values, (reward.encoder.encode_images(images) * text).sum(1))


def test_a_tall_image_is_padded_and_not_cut(reward: HpsReward) -> None:
    """What lies at the top and bottom of a tall image counts, unlike with a cut from the middle."""
    tall = torch.full((2, 3, 96, 32), 128, dtype=torch.uint8)
    tall[1, :, :24] = 255
    values = reward.score(ScoreBatch(tall, ["a cat"] * 2, [0, 0])).values
    assert reward.encoder.model.visual.preprocess_cfg["resize_mode"] == "longest"
    assert values[0] != values[1]


def test_a_long_prompt_is_cut_as_in_training_and_the_page_is_told(
    reward: HpsReward, renders: tuple[Tensor, list[str]]
) -> None:
    long = "a very long story of a cat " * 20
    result = reward.score(ScoreBatch(renders[0][:2], [long, "a cat"], [0, 0]))
    assert result.details["cut"].tolist() == [1, 0]
    assert result.warning is not None and "the first 77 tokens of 1 of 2 prompts" in result.warning


def test_a_checkpoint_of_another_architecture_is_refused(tiny_openai: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"visual.proj": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(RuntimeError, match="Missing key"):
        HpsReward(tmp_path / "other.pt", "other", architecture=f"local-dir:{tiny_openai}")
