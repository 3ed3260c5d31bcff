"""The paired metrics on images whose numbers are known."""

from __future__ import annotations

import pytest
import torch

from flowgrpo.paired import paired


def noise_images(seed: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(40, 200, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)


def test_an_image_is_itself() -> None:
    images = noise_images(0)
    found = paired(images, images)
    assert found["ssim"].tolist() == pytest.approx([1.0, 1.0])
    assert found["distance"].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert torch.isinf(found["psnr"]).all()


def test_psnr_is_that_of_its_definition_for_each_pair() -> None:
    images = noise_images(1)
    shifted = images + torch.tensor([10, 20], dtype=torch.uint8).view(2, 1, 1, 1)
    # 20 log10(255 / error) decibels
    assert paired(shifted, images)["psnr"].tolist() == pytest.approx([28.131, 22.110], abs=1e-3)


def test_another_image_is_less_alike_than_a_slightly_changed_one() -> None:
    images = noise_images(2)
    near, far = paired((images // 2) * 2, images), paired(noise_images(3), images)
    assert (near["ssim"] > far["ssim"]).all()
    assert (near["distance"] < far["distance"]).all()


def test_pairs_must_fit() -> None:
    with pytest.raises(ValueError, match="one reference per image"):
        paired(noise_images(0), noise_images(0, count=3))
