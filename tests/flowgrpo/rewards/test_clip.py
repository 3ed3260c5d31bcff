from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.clip import ClipReward
from flowgrpo.rewards.encoders import clip_of_hub
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import load_stack


@pytest.fixture(scope="module")
def reward(weights: Path) -> ClipReward:
    return ClipReward(weights / "clip")


def test_the_value_is_the_raw_cosine_of_open_clips_own_embeddings(
    reward: ClipReward, renders: tuple[Tensor, list[str]]
) -> None:
    images, prompts = renders
    values = reward.score(ScoreBatch(images, prompts, [0] * len(images))).values
    with torch.no_grad():
        image = F.normalize(reward.encoder.model.encode_image(images.float() / 127.5 - 1), dim=1)
        text = F.normalize(reward.encoder.model.encode_text(reward.encoder.tokenize(prompts)), dim=1)
    torch.testing.assert_close(values, (image * text).sum(1), atol=1e-5, rtol=0)


def test_the_order_of_the_images_does_not_matter(
    reward: ClipReward, renders: tuple[Tensor, list[str]]
) -> None:
    images, prompts = renders
    forward = reward.score(ScoreBatch(images, prompts, [0] * 24)).values
    backward = reward.score(ScoreBatch(images.flip(0), prompts[::-1], [0] * 24)).values
    torch.testing.assert_close(forward, backward.flip(0), atol=1e-5, rtol=0)


def test_a_text_is_read_to_its_end(reward: ClipReward) -> None:
    """The trap of pooling at the highest token id: what comes after it is invisible."""
    first, second = reward.encoder.encode_prompts(
        ["portrait, red hair, smile, blue background", "portrait, red hair, smile, pink background"]
    )
    assert not torch.allclose(first, second)


def test_a_larger_image_is_brought_to_the_encoders_size(reward: ClipReward) -> None:
    images = torch.full((1, 3, 100, 100), 90, dtype=torch.uint8)
    assert reward.encoder.encode_images(images).shape == (1, reward.encoder.size)


def test_pooling_at_the_highest_token_is_refused_for_an_own_tokenizer(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights / "clip", tmp_path / "clip")
    path = tmp_path / "clip" / "open_clip_config.json"
    config = json.loads(path.read_text())
    del config["model_cfg"]["text_cfg"]["pool_type"]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="an own tokenizer needs"):
        ClipReward(tmp_path / "clip")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("ViT-L-14/openai", "ViT-L-14-quickgelu/openai"),
        ("ViT-L-14", "architecture/pretrained tag"),
        ("ViT-L-14/nobody", 'knows no weights "nobody" for "ViT-L-14"; it knows openai, laion'),
    ],
)
def test_a_named_model_that_would_compute_something_else_is_refused(source: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        clip_of_hub(source, Options(Path()))


def test_a_named_model_that_is_not_here_is_unavailable_with_size_and_licence(weights: Path) -> None:
    name = "clip:ViT-L-14-quickgelu/openai"
    reason = load_stack([name], weights).unavailable[name]
    assert "needs CLIP ViT-L-14-quickgelu/openai" in reason
    assert "fetching is switched off" in reason


def test_missing_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    with pytest.raises(LookupError, match=r"clip/open_clip_config\.json"):
        ClipReward(tmp_path / "clip")
