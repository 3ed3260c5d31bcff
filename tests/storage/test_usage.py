"""Every file of the data folder is counted once, in its part, and nothing outside is."""

from __future__ import annotations

from pathlib import Path

from storage.usage import measure


def put(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_each_part_is_told_and_each_run_by_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    put(home / "app.db", 100)
    put(home / "app.db-wal", 7)
    put(home / "blobs" / "ab" / "one.png", 30)
    put(home / "blobs" / "cd" / "two.png", 40)
    put(home / "runs" / "r1" / "checkpoints" / "4" / "lora.safetensors", 500)
    put(home / "runs" / "r1" / "log.txt", 5)
    put(home / "runs" / "r2" / "log.txt", 6)
    put(home / "heads" / "h.safetensors", 9)
    put(home / "notices.json", 2)
    found = measure(home)
    assert found.parts == {"database": 107, "blobs": 70, "runs": 511, "other": 11}
    assert found.runs == {"r1": 505, "r2": 6}
    assert 0 < found.free <= found.total


def test_what_a_link_points_to_is_somebody_elses(tmp_path: Path) -> None:
    home = tmp_path / "home"
    put(tmp_path / "elsewhere" / "large.bin", 10_000)
    put(home / "models" / "own.bin", 10)
    (home / "models" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (home / "models" / "round").symlink_to(home, target_is_directory=True)
    assert measure(home).parts["models"] < 1000


def test_a_folder_without_anything_takes_nothing(tmp_path: Path) -> None:
    assert measure(tmp_path).parts == {"database": 0, "other": 0}
