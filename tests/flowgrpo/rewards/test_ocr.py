from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.ocr import NOTHING_QUOTED, UNASKED, OcrReward, edits, quoted, similarity


@pytest.fixture(scope="module")
def reward() -> OcrReward:
    return OcrReward()


def painted(text: str, side: int = 96) -> Tensor:
    picture = Image.new("RGB", (side, side), "white")
    font = ImageFont.load_default(side // 5)
    ImageDraw.Draw(picture).text((side // 20, side // 3), text, fill="black", font=font)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def test_text_that_is_painted_as_asked_scores_one_and_each_wrong_letter_costs_its_share(
    reward: OcrReward,
) -> None:
    images = torch.stack([painted("OPEN"), painted("OXEN"), painted("")])
    result = reward.score(ScoreBatch(images, ['a sign that says "open"'] * 3, [0] * 3))
    assert result.values.tolist() == [1.0, 0.75, 0.0]
    assert [reward.read(image) for image in images] == ["OPEN", "OXEN", ""]  # alone as in company
    assert result.details[UNASKED].isnan().all()
    assert result.warning is not None and "images of 96x96 were enlarged to be read" in result.warning


def test_text_that_nobody_asked_for_is_counted_and_not_scored(reward: OcrReward) -> None:
    images = torch.stack([painted("HELLO"), painted("")])
    result = reward.score(ScoreBatch(images, ["a wall"] * 2, [0] * 2))
    assert result.values.isnan().all()
    assert result.reasons == (NOTHING_QUOTED,) * 2
    assert result.details[UNASKED].tolist() == [5, 0]


def test_a_large_image_is_read_as_it_is(reward: OcrReward) -> None:
    result = reward.score(ScoreBatch(painted("2049", 256)[None], ['"2049"'], [0]))
    assert result.values.tolist() == [1.0]
    assert result.warning is None


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ('a sign "OPEN" above a door "No 7"', ["OPEN", "No 7"]),
        ("a sign “Fermé” and 「酒」", ["Fermé", "酒"]),
        ("a cat's toy and a dog's bone", []),
        ('an empty sign "" or " "', []),
    ],
)
def test_double_quotes_of_any_language_ask_for_text(prompt: str, texts: list[str]) -> None:
    assert quoted(prompt) == texts


@given(st.text("ab", max_size=6), st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edits_are_a_distance(a: str, b: str, c: str) -> None:
    assert edits(a, a) == 0
    assert (edits(a, b) == 0) == (a == b)
    assert edits(a, b) == edits(b, a)
    assert edits(a, c) <= edits(a, b) + edits(b, c)
    assert abs(len(a) - len(b)) <= edits(a, b) <= max(len(a), len(b))


@pytest.mark.parametrize(
    ("found", "share"),
    [("no smoking here", 1.0), ("NoSmoking", 1.0), ("no smokin", 0.9 - 1 / 90), ("", 0.0), ("x" * 99, 0.0)],
)
def test_spaces_and_capitals_do_not_count_and_no_score_is_below_zero(found: str, share: float) -> None:
    assert similarity(["No smoking"], found) == pytest.approx(share)


def test_several_texts_count_alike() -> None:
    assert similarity(["OPEN", "BAR"], "open") == 0.5


@pytest.mark.parametrize(
    ("found", "shares"),
    [
        ("HELLO WORLB", (1.0, 0.8)),
        ("WORLD HELLO", (1.0, 1.0)),
        ("HE11O sale WORLD", (0.6, 1.0)),
        ("WORLD", (0.2, 1.0)),
        ("", (0.0, 0.0)),
    ],
)
def test_of_several_texts_each_is_held_to_what_is_most_like_it(
    found: str, shares: tuple[float, float]
) -> None:
    assert similarity(["HELLO", "WORLD"], found) == pytest.approx(sum(shares) / 2)


@given(st.text("ab", max_size=5), st.text("abc", max_size=6))
def test_the_nearest_stretch_is_the_nearest_of_all_stretches(text: str, found: str) -> None:
    stretches = [found[i:j] for i in range(len(found) + 1) for j in range(i, len(found) + 1)]
    assert edits(text, found, anywhere=True) == min(edits(text, stretch) for stretch in stretches)


def test_the_version_names_the_formula_since_scores_are_kept_by_it(reward: OcrReward) -> None:
    assert reward.spec.version.endswith(", formula 2")
