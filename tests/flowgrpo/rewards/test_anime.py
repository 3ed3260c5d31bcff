from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from flowgrpo.rewards.anime import AnimeAestheticReward, WaifuHead
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.encoders import clip_in_folder
from tests.tiny_clip import SIZE
from tests.tiny_rewards import tiny_anime


@pytest.fixture(scope="module")
def reward(tiny_openai: Path, tmp_path_factory: pytest.TempPathFactory) -> AnimeAestheticReward:
    return tiny_anime(tiny_openai, tmp_path_factory.mktemp("waifu"))


def test_the_head_has_the_published_layers() -> None:
    """768-2048-512-256-128-32-1, batch normalisation after ReLU; the pinned file has room for no others."""
    state = WaifuHead().state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items() if key.endswith("weight")}
    assert shapes == {
        "layers.0.weight": (2048, 768), "layers.2.weight": (2048,),
        "layers.4.weight": (512, 2048), "layers.6.weight": (512,),
        "layers.8.weight": (256, 512), "layers.10.weight": (256,),
        "layers.12.weight": (128, 256), "layers.14.weight": (128,),
        "layers.16.weight": (32, 128), "layers.18.weight": (1, 32),
    }  # fmt: skip
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert 0 < 11_219_340 - size < 8192  # the pinned file is these tensors and a header


def test_an_image_alone_scores_what_it_scores_among_others(
    reward: AnimeAestheticReward, renders: tuple[Tensor, list[str]]
) -> None:
    """Batch normalisation must use what it learned, not the batch."""
    images, prompts = renders
    among = reward.score(ScoreBatch(images[:6], prompts[:6], [0] * 6)).values
    alone = reward.score(ScoreBatch(images[2:3], prompts[2:3], [0])).values
    torch.testing.assert_close(alone, among[2:3], atol=1e-4, rtol=0)
    assert among.std() > 0


def test_scores_stay_within_the_published_range(
    reward: AnimeAestheticReward, renders: tuple[Tensor, list[str]]
) -> None:
    images, prompts = renders
    reward.head.get_parameter("layers.18.bias").data.add_(100)
    values = reward.score(ScoreBatch(images[:2], prompts[:2], [0] * 2)).values
    reward.head.get_parameter("layers.18.bias").data.sub_(100)
    assert values.tolist() == [10.0, 10.0]


def test_the_head_of_another_encoder_is_refused(tiny_openai: Path, tmp_path: Path) -> None:
    save_file(WaifuHead(SIZE + 1).state_dict(), tmp_path / "head.safetensors")
    with pytest.raises(RuntimeError, match="size mismatch"):
        AnimeAestheticReward(clip_in_folder(tiny_openai), tmp_path / "head.safetensors")
