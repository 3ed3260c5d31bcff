from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from flowgrpo.rewards.aesthetic import AestheticReward
from flowgrpo.rewards.anime import AnimeAestheticReward, WaifuHead
from flowgrpo.rewards.base import Reward, ScoreBatch
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.clip import ClipReward
from flowgrpo.rewards.clip_encoder import ClipEncoder, prepared
from flowgrpo.rewards.encoders import clip_in_folder, clip_of_hub
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.perceptual import DiversityReward, EmbeddingDiversity, PerceptualReference
from flowgrpo.rewards.quality import QualityReward
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rewards.texts import parts
from flowgrpo.starter import features
from tests.tiny_clip import SIZE

LONG = ", ".join(f"tag_number_{i}" for i in range(40))


@pytest.fixture(scope="module")
def encoder(tiny_openai: Path) -> ClipEncoder:
    return clip_in_folder(tiny_openai)


def batch_of(renders: tuple[Tensor, list[str]], num: int = 6) -> ScoreBatch:
    images = renders[0][:num]
    return ScoreBatch(images, renders[1][:num], [i // 3 for i in range(num)], references=images.roll(1, 0))


def test_one_clip_forward_feeds_all_heads_that_share_it(
    tiny_openai: Path, renders: tuple[Tensor, list[str]], tmp_path: Path
) -> None:
    encoder = clip_in_folder(tiny_openai)
    save_file(WaifuHead(SIZE).state_dict(), tmp_path / "head.safetensors")
    rewards: dict[str, Reward] = {
        "clip": ClipReward(tiny_openai),
        "aesthetic": AestheticReward(encoder, torch.ones(SIZE), 5.0, "1"),
        "aesthetic_anime": AnimeAestheticReward(encoder, tmp_path / "head.safetensors"),
        "diversity": EmbeddingDiversity(clip_in_folder(tiny_openai), CARDS["diversity"]),
    }
    forwards: list[int] = []
    hook = encoder.model.visual.register_forward_hook(lambda *_: forwards.append(1))
    results = RewardStack(rewards).score(batch_of(renders))
    hook.remove()
    assert len(forwards) == 1
    assert all(result.values.isfinite().all() for result in results.values())


def test_one_efficientnet_forward_a_look_feeds_all_that_share_it(
    weights: Path, renders: tuple[Tensor, list[str]]
) -> None:
    backbone = features.load_backbone("cpu")
    rewards: dict[str, Reward] = {
        "quality": QualityReward(weights / "quality"),
        "diversity": DiversityReward(),
        "perceptual_ref": PerceptualReference(),
    }
    forwards: list[int] = []
    hook = backbone.register_forward_hook(lambda *_: forwards.append(1))
    RewardStack(rewards).score(batch_of(renders))
    hook.remove()
    assert len(forwards) == 3  # the images as they are, the images smoothed, the references smoothed


def test_the_pool_gives_one_encoder_for_the_same_weights_and_lets_it_go(tiny_openai: Path) -> None:
    first = ClipReward(tiny_openai)
    assert ClipReward(tiny_openai).encoder is first.encoder
    version = first.spec.version
    del first
    assert ClipReward(tiny_openai).spec.version == version


@pytest.mark.parametrize("mode", ["squash", "shortest", "longest"])
@pytest.mark.parametrize("shape", [(64, 64), (40, 70), (20, 9)])
def test_images_are_prepared_as_open_clip_prepares_them(mode: str, shape: tuple[int, int]) -> None:
    """Up to PIL's rounding to 8 bits between resizing and normalising: a level is 0.02 in these units."""
    config = {
        "size": 32, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25), "interpolation": "bicubic",
        "resize_mode": mode, "fill_color": 0,
    }  # fmt: skip
    levels = np.random.default_rng(0).integers(60, 190, (3, 3, 3), dtype=np.uint8)
    picture = Image.fromarray(levels).resize(shape[::-1], Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]
    transform = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**config), False)
    torch.testing.assert_close(prepared(pixels, config)[0], transform(picture), atol=0.025, rtol=0)


def test_a_named_model_is_read_from_the_hubs_cache_with_the_preprocessing_of_its_tag(
    tiny_openai: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renders: tuple[Tensor, list[str]]
) -> None:
    config = json.loads((tiny_openai / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "ViT-tiny-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "ViT-tiny-test.json")
    tag = {"hf_hub": "nobody/tiny/", "mean": (0.1, 0.2, 0.3), "resize_mode": "longest", "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-tiny-test", {"some": tag})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    snapshot = tmp_path / "models--nobody--tiny" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (tmp_path / "models--nobody--tiny" / "refs").mkdir()
    (tmp_path / "models--nobody--tiny" / "refs" / "main").write_text(commit)
    shutil.copy(tiny_openai / "open_clip_model.safetensors", snapshot)

    encoder = clip_of_hub("ViT-tiny-test/some", Options(tmp_path, offline=True))
    assert encoder.version == "ViT-tiny-test/some@0123456"
    shape = encoder.model.visual.preprocess_cfg
    assert (shape["resize_mode"], tuple(shape["mean"])) == ("longest", (0.1, 0.2, 0.3))
    texts = encoder.encode_prompts(renders[1][:2])
    torch.testing.assert_close(texts, clip_in_folder(tiny_openai).encode_prompts(renders[1][:2]))


def test_the_page_is_told_that_small_images_are_enlarged(encoder: ClipEncoder) -> None:
    small = ScoreBatch(torch.zeros(2, 3, 16, 20, dtype=torch.uint8), ["a cat"] * 2, [0, 1])
    assert ClipReward(encoder).score(small).warning == (
        f"images of 20x16 are enlarged to the 32x32 that {encoder.name} sees"
    )


def test_a_long_prompt_is_read_to_its_end(encoder: ClipEncoder) -> None:
    embeddings = encoder.encode_prompts([LONG, f"{LONG}, a cat", "a cat"])
    assert encoder.num_parts([LONG, "a cat"]).tolist() == [3, 1]
    assert not torch.allclose(embeddings[0], embeddings[1])
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_a_long_prompt_is_the_mean_of_its_parts(encoder: ClipEncoder) -> None:
    prompt = ", ".join(f"tag number {i}" for i in range(40))
    read = parts(prompt, encoder.fits)
    with torch.no_grad():
        each = encoder.model.encode_text(open_clip.tokenize(read), normalize=True)
    mean = torch.nn.functional.normalize(each.mean(0), dim=0)
    assert len(read) > 1
    torch.testing.assert_close(encoder.encode_prompts([prompt])[0], mean)


def test_a_page_is_told_of_long_prompts(encoder: ClipEncoder, renders: tuple[Tensor, list[str]]) -> None:
    result = ClipReward(encoder).score(ScoreBatch(renders[0][:2], [LONG, "a cat"], [0, 1]))
    assert result.details["parts"].tolist() == [3, 1]
    assert result.warning is not None and "1 of 2 prompts are longer than the 77 tokens" in result.warning


def test_the_starters_own_clip_reads_in_parts_too(weights: Path) -> None:
    encoder = clip_in_folder(weights / "clip")
    long = ", ".join(["red hair", "blue background"] * 12)
    assert encoder.context == 40
    assert encoder.num_parts([long, "red hair"]).tolist() == [2, 1]


def test_words_of_praise_move_only_encoders_that_learned_them_from_the_web(
    encoder: ClipEncoder, weights: Path
) -> None:
    first, second = encoder.encode_prompts(["red hair", "masterpiece, red_hair"])
    assert torch.equal(first, second)
    own = clip_in_folder(weights / "clip").encode_prompts(["red hair", "masterpiece, red_hair"])
    assert not torch.equal(own[0], own[1])
