from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from flowgrpo.imagefolder import MAX_CAPTION_BYTES, Example, read_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    return made


def put(folder: Path, name: str, caption: str | None = None, suffix: str = ".txt") -> Path:
    """An image of 6 x 4 pixels and, if given, its caption beside it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), "red").save(path)
    if caption is not None:
        path.with_suffix(suffix).write_text(caption, encoding="utf-8")
    return path


def listing(folder: Path, *rows: object) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def captions(folder: Path, **options: bool) -> dict[str, str]:
    return {one.path.name: one.caption for one in read_folder(folder, **options)}


def test_images_with_captions_beside_them_are_examples_in_the_order_of_their_paths(folder: Path) -> None:
    names = ["b/c.png", "a.jpg", "B.webp", "b.png", "a/z.gif", "v1.5.png", "ü.JPG"]
    for name in names:
        put(folder, name, f" tags of {name}\n")
    expected = [Example((folder / name).resolve(), f"tags of {name}", 6, 4) for name in sorted(names)]
    assert read_folder(folder) == read_folder(folder, decode=True) == expected


def test_a_caption_may_have_another_suffix_and_a_mark_of_byte_order(folder: Path) -> None:
    put(folder, "a.png", "1girl", suffix=".caption")
    put(folder, "b.png", "\ufeff1boy", suffix=".TXT")
    put(folder, "c.png", "tags")
    put(folder, "c.png", "a sentence", suffix=".caption")
    assert captions(folder) == {"a.png": "1girl", "b.png": "1boy", "c.png": "tags"}


def test_sizes_are_those_of_the_upright_image(folder: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    put(folder, "a.jpg", "tags")
    Image.new("RGB", (30, 20)).save(folder / "a.jpg", exif=exif)
    (example,) = read_folder(folder)
    assert (example.width, example.height) == (20, 30)


def test_folders_of_kohyas_pattern_repeat_their_images(folder: Path) -> None:
    names = ["10_girl/a.png", "10_girl/new/b.png", "10_girl/3_few/c.png", "other/d.png", "e_2/e.png"]
    for name in names:
        put(folder / "7_the data", name, "tags")
    repeats = {one.path.stem: one.repeats for one in read_folder(folder / "7_the data")}
    assert repeats == {"a": 10, "b": 10, "c": 3, "d": 1, "e": 1}


@pytest.mark.parametrize("name", ["0_off", "2024_summer"])
def test_a_folder_that_repeats_never_or_too_often_is_refused(name: str, folder: Path) -> None:
    put(folder, f"{name}/a.png", "tags")
    with pytest.raises(ValueError, match=f"the folder {name} asks to show its images .* expected 1 to 1000"):
        read_folder(folder)


def test_hidden_files_and_other_files_are_passed_over(folder: Path) -> None:
    put(folder, "a.png", "tags")
    for name in ("._a.png", ".ipynb_checkpoints/a.png", "a.json", "a.npz", "Thumbs.db"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    assert captions(folder) == {"a.png": "tags"}


def test_a_metadata_file_gives_captions_in_its_own_order(folder: Path) -> None:
    for name in ("d.png", "10_sub/c.png", "b.png", "a.png"):
        put(folder, name)
    listing(
        folder,
        {"file_name": "d.png", "text": " a girl\u2028in rain ", "tags": ["no"]},
        {"file_name": "10_sub/c.png", "caption": "1girl"},
        "",
        {"file_name": "./b.png", "text": "", "prompt": None, "tags": ["1girl", "long_hair"], "score": 3},
        '{"file_name": "a.png", "tags": "solo,\u2028smile"}',
        {"file_name": "a.png", "prompt": "again"},
    )
    read = [(one.path.name, one.caption, one.repeats) for one in read_folder(folder)]
    assert read == [
        ("d.png", "a girl\u2028in rain", 1),
        ("c.png", "1girl", 1),
        ("b.png", "1girl, long_hair", 1),
        ("a.png", "solo,\u2028smile", 1),
        ("a.png", "again", 1),
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"file_name": "a.png"', "line 2 of metadata.jsonl is not JSON"),
        ("[" * 100_000, "line 2 of metadata.jsonl is not JSON"),
        ('{"file_name": "a.png", "text": "\\ud800"}', "line 2 of metadata.jsonl is not JSON"),
        ('["a.png", "1girl"]', "line 2 of metadata.jsonl has no file_name"),
        ('{"text": "1girl"}', "line 2 of metadata.jsonl has no file_name"),
        ('{"file_name": "a\\u0000.png"}', "line 2 of metadata.jsonl has no file_name"),
        ('{"file_name": "a.png", "text": 3}', "line 2 .* has a text that is neither a text nor a list"),
        ('{"file_name": "a.png", "tags": ["a", 3]}', "line 2 .* has a tags that is neither"),
        ('{"file_name": "../b.png", "text": "b"}', r"line 2 .* names \.\./b\.png, which lies outside"),
        ('{"file_name": "sub/../../b.png", "text": "b"}', "line 2 .* which lies outside"),
        ('{"file_name": "/b.png", "text": "b"}', "line 2 .* names /b.png, which lies outside"),
    ],
)
def test_a_bad_line_of_metadata_is_refused_by_its_number(line: str, sentence: str, folder: Path) -> None:
    put(folder, "a.png")
    put(folder.parent, "b.png")
    listing(folder, {"file_name": "a.png", "text": "1girl"}, line)
    with pytest.raises(ValueError, match=sentence):
        read_folder(folder)


def test_a_metadata_file_that_names_missing_images_is_refused(folder: Path) -> None:
    put(folder, "a.png")
    listing(folder, *({"file_name": f"{name}.png", "text": "x"} for name in ["a", "b", "c", "d", "e" * 500]))
    with pytest.raises(LookupError, match=r"not there: 4 files \(b\.png, c\.png, d\.png and 1 more\); add"):
        read_folder(folder)


def test_a_folder_that_is_not_there_or_holds_nothing_is_refused(folder: Path) -> None:
    for path in (folder / "gone", put(folder.parent, "file.png")):
        with pytest.raises(LookupError, match=r"there is no data folder .*: expected a folder of images"):
            read_folder(path)
    with pytest.raises(LookupError, match=r"data has no images: expected files that end in \.avif, "):
        read_folder(folder)
    listing(folder)
    with pytest.raises(LookupError, match="has no images"):
        read_folder(folder)


def test_captions_without_images_are_refused(folder: Path) -> None:
    put(folder, "a.png", "tags")
    for name in ("b.txt", "sub/a.txt", "c.caption", "d.txt", "README.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("tags")
    with pytest.raises(
        ValueError, match=r"no image belongs to 5 files \(README\.txt, b\.txt, c\.caption and 2"
    ):
        read_folder(folder)


def test_images_without_captions_are_refused_unless_they_are_allowed(folder: Path) -> None:
    put(folder, "a.png", "tags")
    put(folder, "b.png", " \n")
    put(folder, "c.png")
    with pytest.raises(
        ValueError, match=r"belongs to 2 files \(\w\.png, \w\.png\): give each image a text file"
    ):
        read_folder(folder)
    assert captions(folder, allow_empty=True) == {"a.png": "tags", "b.png": "", "c.png": ""}


def test_images_that_the_metadata_file_leaves_out_have_no_caption(folder: Path) -> None:
    put(folder, "a.png", "not read")
    put(folder, "b.png")
    listing(folder, {"file_name": "b.png", "text": "listed"})
    with pytest.raises(ValueError, match=r"no caption, or an empty one, belongs to 1 file \(a\.png\)"):
        read_folder(folder)
    assert captions(folder, allow_empty=True) == {"b.png": "listed", "a.png": ""}


def test_what_is_no_text_or_too_long_for_a_caption_is_refused(folder: Path) -> None:
    caption = put(folder, "a.png", "tags").with_suffix(".txt")
    caption.write_bytes("1girl, \xe9toile".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8 text \(at byte 7\): save it as UTF-8"):
        read_folder(folder)
    caption.write_text("x" * (MAX_CAPTION_BYTES + 1))
    with pytest.raises(ValueError, match=r"a\.txt is too long for a caption"):
        read_folder(folder)
    (folder / "metadata.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"metadata\.jsonl is not UTF-8 text"):
        read_folder(folder)


def test_images_that_cannot_be_read_are_refused_by_name(folder: Path) -> None:
    put(folder, "good.png", "tags")
    for name in "abcd":
        put(folder, f"{name}.png", "tags").write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=r"4 images of .* repair or remove them: .*a\.png cannot .*c\.png can"
    ):
        read_folder(folder)


def test_a_truncated_image_is_found_where_images_are_decoded(folder: Path) -> None:
    path = put(folder, "a.png", "tags")
    path.write_bytes(path.read_bytes()[:50])
    assert len(read_folder(folder)) == 1
    with pytest.raises(
        ValueError, match=r"1 image of .* cannot be used; .*a\.png cannot be read as an image"
    ):
        read_folder(folder, decode=True)


def link_to_a_file(folder: Path, outside: Path) -> None:
    (folder / "b.png").symlink_to(outside / "secret.png")


def link_to_a_folder(folder: Path, outside: Path) -> None:
    (folder / "sub").symlink_to(outside)


def link_to_nothing(folder: Path, outside: Path) -> None:
    (folder / "b.png").symlink_to(folder / "gone.png")


def link_to_itself(folder: Path, outside: Path) -> None:
    (folder / "b.png").symlink_to(folder / "b.png")


@pytest.mark.parametrize("link", [link_to_a_file, link_to_a_folder, link_to_nothing, link_to_itself])
def test_a_link_that_leads_out_or_nowhere_is_refused(
    link: Callable[[Path, Path], None], folder: Path, tmp_path: Path
) -> None:
    put(folder, "a.png", "tags")
    put(tmp_path / "outside", "secret.png", "tags")
    link(folder, tmp_path / "outside")
    with pytest.raises(
        ValueError, match=r"links lead out of the data folder .*, or nowhere: 1 file \((b|sub)"
    ):
        read_folder(folder)


def test_links_within_the_folder_are_followed_once(folder: Path, tmp_path: Path) -> None:
    put(folder, "sub/a.png", "tags")
    (folder / "b.png").symlink_to("sub/a.png")
    (folder / "b.txt").write_text("other tags")
    (folder / "again").symlink_to("sub")
    (tmp_path / "entrance").symlink_to(folder)
    assert captions(folder) == captions(tmp_path / "entrance") == {"a.png": "tags", "b.png": "other tags"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_is_closed_is_refused(folder: Path) -> None:
    put(folder, "sub/a.png", "tags")
    (folder / "sub").chmod(0)
    try:
        with pytest.raises(LookupError, match="sub cannot be read"):
            read_folder(folder)
    finally:
        (folder / "sub").chmod(0o700)


def test_two_copies_of_a_folder_give_the_same_examples(folder: Path, tmp_path: Path) -> None:
    for name in ("c.png", "a.png", "sub/b.png"):
        put(folder, name, name)
    shutil.copytree(folder, tmp_path / "copy")
    one, other = (
        [(e.path.relative_to(top.resolve()), e.caption) for e in read_folder(top)]
        for top in (folder, tmp_path / "copy")
    )
    assert one == other
