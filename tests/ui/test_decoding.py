"""An image is looked at before it is decoded, and written anew or left as it came."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ui import decoding
from ui.decoding import write_image
from ui.forms import Refused


def test_what_is_refused_leaves_its_file_and_writes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "000000", tmp_path / "out" / "a.png"
    Image.new("RGB", (40, 30)).save(source, "PNG")
    monkeypatch.setattr(decoding, "MAX_SIDE", 39)
    with pytest.raises(Refused, match=r"a\.png has 40 × 30 pixels, and 16 million with no side above 39"):
        write_image(source, target, "a.png")
    monkeypatch.setattr(decoding, "MAX_SIDE", 40)
    monkeypatch.setattr(decoding, "MAX_BYTES", 10)
    with pytest.raises(Refused, match="more than 0 MB"):
        write_image(source, target, "a.png")
    monkeypatch.setattr(decoding, "MAX_BYTES", 10_000)
    assert source.exists()
    assert not target.exists()
    write_image(source, target, "a.png")
    assert target.exists()
    assert not source.exists()
