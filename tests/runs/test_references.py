"""What images are held against: renders of the starter, or a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from flowgrpo.runs.references import held_out, of_folder, of_starter, portrait_of
from flowgrpo.starter.dataset import portraits


def quiet(phase: str, done: int, total: int) -> None:
    del phase, done, total


def test_the_starters_renders_are_those_of_the_benchmarks_and_made_once(tmp_path: Path) -> None:
    ticks: list[int] = []
    path = tmp_path / "references" / "held_out-4.npy"
    images = held_out(path, 4, lambda _, done, __: ticks.append(done))
    assert ticks == [0]
    assert torch.equal(images, portraits(tmp_path / "other", "held_out", 4).images)
    assert torch.equal(held_out(path, 4, lambda *_: ticks.append(99)), images)
    assert ticks == [0]


def test_a_prompt_means_one_portrait_and_a_foreign_one_none() -> None:
    image = portrait_of("portrait, red hair, glasses")
    assert image is not None and image.shape == (3, 64, 64)
    again = portrait_of("portrait, red hair, glasses")
    assert again is not None and torch.equal(image, again)
    assert portrait_of("a castle in the clouds") is None


def test_references_have_the_size_of_the_images(tmp_path: Path) -> None:
    found = of_starter(tmp_path, ["a castle", "portrait, blue hair"], (32, 48), 2, quiet)
    assert found.images is not None and found.images.shape == (2, 3, 48, 32)
    assert {index: tuple(image.shape) for index, image in found.meant.items()} == {1: (3, 48, 32)}
    assert found.words == "2 renders of held-out combinations"


def test_a_folder_gives_its_images_and_the_one_that_each_prompt_meant(tmp_path: Path) -> None:
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (100, 60), colour).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"all {colour}")
    found = of_folder(tmp_path, ["all blue", "all green"], (16, 16), quiet)
    assert found.images is not None and found.images.shape == (2, 3, 16, 16)
    assert list(found.meant) == [0]
    assert found.meant[0][:, 8, 8].tolist() == [0, 0, 255]


def test_a_folder_of_one_image_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="two or more"):
        of_folder(tmp_path, ["x"], (16, 16), quiet)
