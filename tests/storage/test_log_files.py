from __future__ import annotations

from pathlib import Path

from storage.log_files import end_of, files_of, rotate, size_of


def test_the_end_of_a_log_reaches_back_over_a_rotation_and_two_older_files_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert (end_of(log, 100), size_of(log), files_of(log)) == (b"", 0, [])
    for line in (b"one\n", b"two\n", b"three\n", b"four\n"):
        if log.exists():
            rotate(log)
        log.write_bytes(line)
    assert [one.name for one in files_of(log)] == ["log.2.txt", "log.1.txt", "log.txt"]
    assert end_of(log, 100) == b"two\nthree\nfour\n"
    assert end_of(log, 8) == b"ee\nfour\n"
    assert size_of(log) == 15


def test_a_log_that_was_just_put_aside_is_still_read(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"all of it\n")
    rotate(log)
    assert not log.exists()
    assert end_of(log, 100) == b"all of it\n"
