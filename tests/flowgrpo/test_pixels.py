from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from flowgrpo import pixels

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
SMOOTH = Image.fromarray(COLOURS).resize((200, 120), Image.Resampling.BICUBIC)
"""What JPEG and its relatives keep nearly as it is."""
LOSSLESS = ("PNG", "TIFF", "BMP")


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def decoded(path: Path) -> np.ndarray:
    image = pixels.decode(path)
    assert image.mode == "RGB"
    assert pixels.upright_size(path) == image.size
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("form", [form for form in pixels.FORMATS if form != "GIF"])
def test_every_format_is_read_whatever_the_file_is_called(form: str, tmp_path: Path) -> None:
    path = saved(SMOOTH, tmp_path / "picture.dat", format=form)
    assert np.abs(decoded(path) - np.asarray(SMOOTH)).mean() < (0.1 if form in LOSSLESS else 6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_images_stand_upright_as_their_exif_says(form: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = saved(SMOOTH, tmp_path / "picture", format=form, exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    assert np.array_equal(decoded(path), upright)
    assert upright.shape == ((200, 120, 3) if orientation > 4 else (120, 200, 3))


def test_an_image_turned_by_hand_and_one_turned_by_exif_are_the_same(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was turned: show it a quarter to the right
    path = saved(Image.fromarray(COLOURS), tmp_path / "turned.png", exif=exif)
    assert np.array_equal(decoded(path), np.rot90(COLOURS, k=-1))


def test_exif_that_makes_no_sense_turns_nothing(tmp_path: Path) -> None:
    path = saved(Image.fromarray(COLOURS), tmp_path / "a.webp", lossless=True, exif=b"Exif\0\0no TIFF at all")
    assert np.array_equal(decoded(path), COLOURS)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 9
    assert np.array_equal(decoded(saved(Image.fromarray(COLOURS), tmp_path / "a.png", exif=exif)), COLOURS)


def test_the_size_of_a_png_is_read_without_its_pixels(tmp_path: Path) -> None:
    path = saved(SMOOTH, tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:200])
    assert pixels.upright_size(path) == (200, 120)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_stands_on_white(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(COLOURS).convert(mode)
    alpha = np.linspace(0, 255, 240).round().astype(np.uint8).reshape(12, 20)
    picture.putalpha(Image.fromarray(alpha))
    colours = np.asarray(picture.convert("RGB")).astype(float)
    share = alpha[..., None] / 255
    expected = share * colours + (1 - share) * 255
    assert np.abs(decoded(saved(picture, tmp_path / "a.png")) - expected).max() <= 1


def test_palettes_greys_and_single_bits_become_rgb(tmp_path: Path) -> None:
    for mode in ("P", "L", "1"):
        picture = Image.fromarray(COLOURS).convert(mode)
        path = saved(picture, tmp_path / f"{mode}.png")
        assert np.array_equal(decoded(path), np.asarray(picture.convert("RGB")))


def test_a_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((0, 0), 0)
    for name in ("a.png", "a.gif"):
        seen = decoded(saved(picture, tmp_path / name, transparency=0))
        assert seen[0, 0].tolist() == [255, 255, 255]
        assert seen[1, 3].tolist() == [200, 100, 50]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_become_the_nearest_eight(form: str, tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 300).astype(np.uint16).reshape(15, 20)
    path = saved(Image.fromarray(values), tmp_path / "deep", format=form)
    expected = np.rint(values / 65535 * 255)[..., None].repeat(3, axis=2)
    assert np.array_equal(decoded(path), expected)


def test_cmyk_is_read_as_light_and_not_as_ink(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for name in ("a.tif", "a.jpg"):
        assert np.abs(decoded(saved(picture, tmp_path / name)) - [255, 0, 0]).max() <= 3


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp", "a.png"):
        path = saved(frames[0], tmp_path / name, save_all=True, append_images=frames[1:])
        assert np.abs(decoded(path) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("form", pixels.FORMATS)
def test_a_truncated_image_is_refused_when_it_is_decoded(form: str, tmp_path: Path) -> None:
    path = saved(SMOOTH, tmp_path / "cut", format=form)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match="cut cannot be read as an image: "):
        pixels.decode(path)


def test_what_is_no_image_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "vector.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    for name, reason in [
        ("empty.png", "it is empty"),
        ("text.png", "it is none of AVIF, BMP"),
        ("vector.png", "it is none of AVIF, BMP"),
        ("gone.png", "there is no such file"),
    ]:
        for read in (pixels.upright_size, pixels.decode):
            with pytest.raises(ValueError, match=f"{name} cannot be read as an image: {reason}"):
                read(tmp_path / name)
    path = saved(Image.fromarray(np.ones((2, 2), np.float32)), tmp_path / "float.tif")
    with pytest.raises(ValueError, match="32-bit numbers of no known range"):
        pixels.decode(path)


@pytest.mark.parametrize("height", [9_000, 30_000])
def test_a_decompression_bomb_is_refused_by_its_header(height: int, tmp_path: Path) -> None:
    path = saved(Image.new("1", (10_000, height)), tmp_path / "bomb.png")
    assert path.stat().st_size < 10**6
    for read in (pixels.upright_size, pixels.decode):
        for action in ("error", "ignore"):  # Pillow warns of some bombs and refuses greater ones itself
            with warnings.catch_warnings():
                warnings.simplefilter(action)
                with pytest.raises(ValueError, match="more than 89 million pixels: make it smaller"):
                    read(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=st.sampled_from(pixels.FORMATS), data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_read_or_refused_and_never_anything_else(
    form: str, data: st.DataObject, tmp_path: Path
) -> None:
    path = saved(Image.fromarray(COLOURS), tmp_path / "damaged", format=form)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for read in (pixels.upright_size, pixels.decode):
        with suppress(ValueError):
            read(path)
