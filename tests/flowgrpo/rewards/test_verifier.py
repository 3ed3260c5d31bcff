from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.verifier import NOTHING_ASKED, AttributeVerifier
from flowgrpo.starter.vocabulary import SLOTS


@pytest.fixture(scope="module")
def verifier(weights: Path) -> AttributeVerifier:
    return AttributeVerifier(weights / "verifier")


def test_the_value_is_the_mean_probability_of_the_asked_labels(
    verifier: AttributeVerifier, renders: tuple[Tensor, list[str]]
) -> None:
    images = renders[0][:3]
    result = verifier.score(ScoreBatch(images, ["red hair, blue background"] * 3, [0] * 3))
    probabilities = dict(zip((slot.name for slot in SLOTS), verifier.probabilities(images), strict=True))
    by_name = {slot.name: slot.labels for slot in SLOTS}
    asked = {
        "hair colour": "red hair",
        "background": "blue background",
        "eyewear": "no eyewear",  # not named, so asked to be absent
        "detail": "no detail",
    }
    columns = [probabilities[slot][:, by_name[slot].index(label)] for slot, label in asked.items()]
    torch.testing.assert_close(result.values, torch.stack(columns).mean(0))
    assert result.details["skin"].isnan().all()


def test_unclear_takes_probability_from_every_label(
    verifier: AttributeVerifier, renders: tuple[Tensor, list[str]]
) -> None:
    for slot, probabilities in zip(SLOTS, verifier.probabilities(renders[0][:4]), strict=True):
        assert probabilities.shape == (4, len(slot.labels) + 1)
        assert (probabilities[:, :-1].sum(1) < 1).all()


def test_a_prompt_without_known_words_is_not_scored_and_says_why(
    verifier: AttributeVerifier, renders: tuple[Tensor, list[str]]
) -> None:
    result = verifier.score(ScoreBatch(renders[0][:2], ["a castle at night", "red hair"], [0, 1]))
    assert result.values.isnan().tolist() == [True, False]
    assert result.reasons == (NOTHING_ASKED, None)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"judge/model\.safetensors"):
        AttributeVerifier(tmp_path / "judge", "judge")
