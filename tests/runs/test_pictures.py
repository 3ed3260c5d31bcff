"""What a picture says of itself."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from PIL import Image

from flowgrpo.config import SamplingConfig
from flowgrpo.runs.pictures import png_bytes, read_png

PIXELS = torch.arange(3 * 64 * 64, dtype=torch.uint8).reshape(3, 64, 64)
CONFIG = SamplingConfig(num_steps=8, guidance_scale=3.0, width=64, height=64)


def picture(**more: str) -> bytes:
    config = CONFIG.model_copy(update=more)
    return png_bytes(PIXELS, prompt="red hair", seed=7, config=config, model="starter")


def test_a_picture_tells_other_programs_how_it_was_made() -> None:
    """In the words of A1111: our deterministic sampler is its Euler, whatever the family."""
    told = Image.open(io.BytesIO(picture(negative_prompt="hat"))).info["parameters"]
    assert told.splitlines() == [
        "red hair",
        "Negative prompt: hat",
        "Steps: 8, Sampler: Euler, CFG scale: 3, Seed: 7, Size: 64x64, Model: starter",
    ]


def test_a_picture_keeps_its_settings_for_us_and_its_pixels_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(picture())
    with Image.open(path) as stored:
        told = json.loads(stored.info["flowgrpo"])
    assert told == {"prompt": "red hair", "seed": 7, "model": "starter", **CONFIG.model_dump()}
    assert torch.equal(read_png(path), PIXELS)
