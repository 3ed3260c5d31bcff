"""A blob is whole or not there, and its row comes after it."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from storage.blobs import check_png, path_of, pixels_only, put_png
from storage.engine import Database
from storage.errors import NotSavedError
from tests.storage.records import noise_png


def png(color: str = "red", size: int = 16) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), color).save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()


def test_a_png_lies_under_the_hash_of_its_bytes(db: Database) -> None:
    sha256 = put_png(db.home, PNG)
    assert sha256 == hashlib.sha256(PNG).hexdigest()
    assert path_of(db.home, sha256).read_bytes() == PNG
    assert path_of(db.home, sha256).parent.name == sha256[:2]
    assert list((db.home / "tmp").iterdir()) == []


def test_storing_it_again_changes_nothing(db: Database) -> None:
    first = path_of(db.home, put_png(db.home, PNG)).stat().st_mtime_ns
    assert path_of(db.home, put_png(db.home, PNG)).stat().st_mtime_ns == first


def test_a_file_that_was_cut_off_is_made_whole(db: Database) -> None:
    path = path_of(db.home, put_png(db.home, PNG))
    path.write_bytes(PNG[:10])
    put_png(db.home, PNG)
    assert path.read_bytes() == PNG


def test_the_file_then_its_new_name_then_the_folders_are_synced(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(fd: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def noted_rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    put_png(db.home, PNG)
    assert steps == ["file", "rename", "folder", "folder"]


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"<svg/>", PNG[:-1], PNG + b"x", PNG[:8], PNG[:33] + PNG[-12:]]
)
def test_what_is_not_one_whole_png_is_refused(db: Database, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected a (whole )?PNG"):
        put_png(db.home, data)
    assert list((db.home / "blobs").iterdir()) == []


@given(position=st.integers(0, len(PNG) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_passes(position: int, bit: int) -> None:
    damaged = bytearray(PNG)
    damaged[position] ^= 1 << bit
    with pytest.raises(ValueError, match="PNG"):
        check_png(bytes(damaged))


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65])
def test_a_name_that_is_no_hash_has_no_path(db: Database, sha256: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        path_of(db.home, sha256)


def test_a_full_disk_is_reported_and_leaves_no_remains(db: Database) -> None:
    big = noise_png(128)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(NotSavedError, match="free some space"):
            put_png(db.home, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((db.home / "tmp").iterdir()) == []
    assert not path_of(db.home, hashlib.sha256(big).hexdigest()).exists()
    assert path_of(db.home, put_png(db.home, big)).read_bytes() == big


def test_only_pixels_stay_where_nothing_else_may_be_told() -> None:
    info = PngInfo()
    info.add_itxt("parameters", "Model: secret")
    info.add_text("Software", "secret")
    picture, buffer = Image.effect_noise((9, 7), 50).convert("RGB"), io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info, dpi=(72, 72))
    bare = pixels_only(buffer.getvalue())
    assert b"secret" in buffer.getvalue() and b"secret" not in bare
    check_png(bare)
    with Image.open(io.BytesIO(bare)) as opened:
        assert opened.tobytes() == picture.tobytes() and opened.info == {}
