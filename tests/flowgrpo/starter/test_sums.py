"""The hashes of the shipped weights are true, and name whatever was changed, lost or added."""

from __future__ import annotations

from pathlib import Path

from flowgrpo.starter.package import WEIGHTS
from flowgrpo.starter.sums import SUMS, write_sums, wrong_sums


def test_the_shipped_weights_are_as_they_were_packed() -> None:
    assert wrong_sums(WEIGHTS) == []


def test_a_changed_a_lost_and_an_added_file_are_named(tmp_path: Path) -> None:
    assert wrong_sums(tmp_path) == [SUMS]
    for name in ("a/b", "c", "d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    write_sums(tmp_path)
    assert wrong_sums(tmp_path) == []
    (tmp_path / "a" / "b").write_bytes(b"B")
    (tmp_path / "c").unlink()
    (tmp_path / "new").write_bytes(b"")
    assert wrong_sums(tmp_path) == ["a/b", "c", "new"]
