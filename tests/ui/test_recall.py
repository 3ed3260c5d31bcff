"""Settings are read from images made here and elsewhere; nothing else that a stranger wrote gets through."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

from flowgrpo.config import SamplingConfig
from flowgrpo.runs.pictures import infotext, png_bytes
from ui import decoding, recall
from ui.forms import Refused
from ui.recall import Recalled, of_a1111, of_page

CONFIG = SamplingConfig(num_steps=8, guidance_scale=3.5, width=64, height=48, negative_prompt="hat")
WANTED = {
    "prompt": "red hair", "negative": "hat", "seeds": "7", "num_steps": 8, "guidance_scale": 3.5, "width": 64,
    "height": 48,
}  # fmt: skip
FROM_A1111 = """two lines,
of a prompt: with a colon
Negative prompt: ugly,
worse
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, Seed: 1234, Size: 832x1216, \
Model hash: 0123456789, Model: soft_v2, Lora hashes: "a: 89ab, b: cdef", Version: v1.10.1"""
FROM_SWARM = {
    "sui_image_params": {
        "prompt": "a cat", "negativeprompt": "", "model": "flux1-dev", "seed": 99, "steps": 20,
        "cfgscale": 1.0, "width": 1024, "height": 768, "sampler": "euler", "swarm_version": "0.9",
    }
}  # fmt: skip


def texts_of(path: Path) -> dict[str, str]:
    return decoding.texts_of(path, path.name)


def test_an_image_made_here_gives_its_settings_back(tmp_path: Path) -> None:
    pixels = torch.zeros(3, 48, 64, dtype=torch.uint8)
    path = tmp_path / "ours.png"
    path.write_bytes(png_bytes(pixels, prompt="red hair", seed=7, config=CONFIG, model="Run 1 · update 60"))
    texts = texts_of(path)
    assert recall.read(texts) == Recalled("FlowGRPO Studio", WANTED, "Run 1 · update 60")
    del texts["flowgrpo"]  # as after a program that keeps A1111's text alone
    assert recall.read(texts) == Recalled("FlowGRPO Studio", WANTED, "Run 1 · update 60")


def test_an_image_of_a1111_gives_what_our_form_has_and_names_the_rest() -> None:
    found = of_a1111(FROM_A1111)
    assert found.values == {
        "prompt": "two lines,\nof a prompt: with a colon", "negative": "ugly,\nworse", "num_steps": 28,
        "guidance_scale": 4.5, "seeds": "1234", "width": 832, "height": 1216,
    }  # fmt: skip
    assert (found.source, found.model) == ("A1111", "soft_v2")
    assert found.left_out == ("Sampler DPM++ 2M", "Schedule type Karras", "Lora hashes a: 89ab, b: cdef")


def test_an_image_of_swarmui_gives_its_settings() -> None:
    found = recall.read({"parameters": json.dumps(FROM_SWARM)})
    assert found.values == {
        "prompt": "a cat", "negative": "", "seeds": "99", "num_steps": 20, "guidance_scale": 1.0,
        "width": 1024, "height": 768,
    }  # fmt: skip
    assert (found.source, found.model, found.left_out) == ("SwarmUI", "flux1-dev", ("sampler euler",))


@pytest.mark.parametrize("end", ["JPEG", "WEBP"])
@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_the_text_of_a_jpeg_or_webp_stands_in_its_exif(tmp_path: Path, end: str, encoding: str) -> None:
    exif = Picture.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + FROM_A1111.encode(encoding)
    path = tmp_path / f"image.{end.lower()}"
    Picture.new("RGB", (32, 32)).save(path, end, exif=exif)
    assert recall.read(texts_of(path)) == of_a1111(FROM_A1111)


def test_a_text_behind_the_pixels_is_found(tmp_path: Path) -> None:
    said, file = PngInfo(), io.BytesIO()
    said.add_itxt("parameters", FROM_A1111, zip=True)
    Picture.new("RGB", (32, 32)).save(file, "PNG", pnginfo=said)
    png, start = file.getvalue(), file.getvalue().index(b"iTXt") - 4
    end = start + 12 + int.from_bytes(png[start : start + 4], "big")
    moved = png[:start] + png[end:-12] + png[start:end] + png[-12:]
    (tmp_path / "moved.png").write_bytes(moved)
    assert recall.read(texts_of(tmp_path / "moved.png")) == of_a1111(FROM_A1111)


@pytest.mark.parametrize(
    "texts",
    [{}, {"parameters": ""}, {"Comment": "made by me"}, {"parameters": "red hair"},
     {"parameters": "a, b\nSteps: 8, Seed: 7"}, {"parameters": "[" * 20_000}, {"flowgrpo": "[]"}],
)  # fmt: skip
def test_an_image_that_says_nothing_gets_a_sentence(texts: dict[str, str]) -> None:
    with pytest.raises(Refused, match="says nothing of how it was made"):
        recall.read(texts)


@pytest.mark.parametrize(
    "wrong",
    [{"num_steps": 10**9}, {"num_steps": "many"}, {"guidance_scale": "nan"}, {"width": -1}, {"seeds": "-1"},
     {"seeds": "9" * 5000}, {"seeds": 2**32}, {"prompt": ["a"]}, {"chosen": ["x"]}, {"checkpoint": "x"}],
)  # fmt: skip
def test_a_value_that_its_field_does_not_take_is_left_out(wrong: dict[str, Any]) -> None:
    answer = {"source": "A1111", "values": WANTED | wrong, "model": "", "left_out": []}
    found = of_page(json.dumps(answer)).values
    assert found == {key: value for key, value in WANTED.items() if key not in wrong}


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"values": []}', "nonsense", "[" * 9_000])
def test_what_is_no_answer_of_ours_is_refused(answer: str) -> None:
    with pytest.raises(Refused, match="says nothing"):
        of_page(answer)


def test_an_unknown_source_is_called_by_none_of_its_own_words() -> None:
    answer = {"source": "<b>", "values": WANTED, "model": 7, "left_out": ["a", 8]}
    assert of_page(json.dumps(answer)) == Recalled("A1111", WANTED, "", ("a",))


@settings(max_examples=200, deadline=None)
@given(
    prompt=st.text(max_size=60), negative=st.text(max_size=30), name=st.text(min_size=1, max_size=30),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_what_is_written_is_read_whatever_the_words_are(
    prompt: str, negative: str, name: str, seed: int
) -> None:
    told = infotext(prompt, seed, CONFIG.model_copy(update={"negative_prompt": negative}), name)
    found = of_a1111(told)
    assert (found.values["seeds"], found.values["num_steps"]) == (str(seed), 8)
    if "Negative prompt:" not in prompt and "\r" not in prompt + negative:
        assert found.values["prompt"] == prompt.strip()
        assert found.values["negative"] == negative.strip()
    assert found.model == name


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["parameters", "flowgrpo", "x"]), st.text(max_size=300)))
def test_any_text_is_read_or_refused(texts: dict[str, str]) -> None:
    with suppress(Refused):  # any other error would be a crash
        assert isinstance(recall.read(texts), Recalled)
