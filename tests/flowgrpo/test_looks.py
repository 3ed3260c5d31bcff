"""Saturation, contrast, sharpness and entropy of pictures whose numbers are known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.functional import adjust_contrast, adjust_saturation, gaussian_blur

from flowgrpo.looks import entropy, looks


def pictures(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, 3, 16, 16), generator=generator, dtype=torch.uint8)


@given(level=st.integers(0, 255))
def test_a_grey_area_has_none_of_them(level: int) -> None:
    found = looks(torch.full((1, 3, 8, 8), level, dtype=torch.uint8))
    assert [round(value.item(), 6) for value in found.values()] == [0, 0, 0]


def test_a_pure_colour_is_wholly_saturated() -> None:
    red = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    red[:, 0] = 255
    assert looks(red)["saturation"].item() == 1


@pytest.mark.parametrize("seed", range(3))
def test_each_follows_what_changes_it(seed: int) -> None:
    images = pictures(seed)
    plain = looks(images)
    assert (looks(gaussian_blur(images, 5))["sharpness"] < plain["sharpness"]).all()
    assert (looks(adjust_saturation(images, 0.3))["saturation"] < plain["saturation"]).all()
    assert (looks(adjust_contrast(images, 0.3))["contrast"] < plain["contrast"]).all()


def test_one_colour_has_no_entropy_a_ramp_little_and_noise_the_most() -> None:
    flat = torch.full((1, 3, 32, 32), 90, dtype=torch.uint8)
    ramp = torch.arange(32, dtype=torch.uint8).repeat(1, 3, 32, 1) * 7
    noise = torch.randint(0, 256, (1, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    found = [entropy(images).item() for images in (flat, ramp, noise.expand(1, 3, 32, 32).to(torch.uint8))]
    assert found[0] == 0
    assert found[1] == 0
    assert 7.5 < found[2] < 9
