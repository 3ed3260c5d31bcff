"""What a picture says of itself."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from flowgrpo.config import SamplingConfig
from flowgrpo.runs.pictures import infotext, png_bytes, read_png
from storage.version import VERSION

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
        "Steps: 8, Sampler: Euler, CFG scale: 3, Seed: 7, Size: 64x64, Model: starter, RNG: CPU, "
        f"Version: FlowGRPO Studio {VERSION}",
    ]


# How A1111 reads the last line: key, colon, then a JSON string or anything up to a comma.
SETTING = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


@pytest.mark.parametrize("name", ["Run 1 · update 60", "soft, light", 'a: "b"\\', "two\nlines", "猫, 犬"])
def test_a_name_with_commas_and_colons_is_read_back_as_it_is(name: str) -> None:
    last = infotext("red hair", 7, CONFIG, name).splitlines()[-1]
    found = {key: json.loads(value) if value[:1] == '"' else value for key, value in SETTING.findall(last)}
    assert found["Model"] == name
    assert (found["Seed"], found["Size"], found["Steps"]) == ("7", "64x64", "8")


def test_a_picture_keeps_its_settings_for_us_and_its_pixels_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(picture())
    with Image.open(path) as stored:
        told = json.loads(stored.info["flowgrpo"])
    made = {"prompt": "red hair", "seed": 7, "model": "starter", "version": VERSION}
    assert told == made | CONFIG.model_dump()
    assert torch.equal(read_png(path), PIXELS)
