from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.pickscore import PickScoreReward
from flowgrpo.rewards.stack import load_stack
from tests.tiny_rewards import tiny_pickscore


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> PickScoreReward:
    return tiny_pickscore(tmp_path_factory.mktemp("pickscore"))


def test_the_value_is_what_the_models_own_forward_calls_a_logit(
    reward: PickScoreReward, renders: tuple[Tensor, list[str]]
) -> None:
    images, prompts = renders[0][:4], renders[1][:4]
    values = reward.score(ScoreBatch(images, prompts, [0] * 4)).values
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    small = F.interpolate(images.float() / 255, (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    pixels = (small - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        answer = reward.model(input_ids=reward.tokenize(prompts), pixel_values=pixels)
    torch.testing.assert_close(values, answer.logits_per_image.diagonal(), atol=1e-4, rtol=0)


def test_a_long_prompt_is_cut_and_the_page_is_told(
    reward: PickScoreReward, renders: tuple[Tensor, list[str]]
) -> None:
    result = reward.score(ScoreBatch(renders[0][:2], ["a cat " * 60, "a cat"], [0, 0]))
    assert result.details["cut"].tolist() == [1, 0]
    assert result.warning == "PickScore v1 read the first 77 tokens of 1 of 2 prompts"


def test_it_waits_until_somebody_has_accepted_its_notice(weights: Path) -> None:
    waiting = load_stack(["pickscore"], weights).unavailable["pickscore"]
    assert "waits for somebody to accept this" in waiting and "names no licence" in waiting
    assert "python app.py accept pickscore" in waiting
    accepted = Options(weights, offline=True, accepted={"pickscore": CARDS["pickscore"].notice_sha256})
    reason = load_stack(["pickscore"], weights, options=accepted).unavailable["pickscore"]
    assert "needs" in reason and "fetching is switched off" in reason
