"""A network file system is refused for a SQLite file, and tried before hosts share a data folder on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import filesystems


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """Says that the test's folder lies on NFS."""
    (tmp_path / "home" / "tmp").mkdir(parents=True)
    told = tmp_path / "mounts"
    told.write_text(f"/dev/sda / ext4 rw 0 0\nhost:/x {tmp_path} nfs4 rw 0 0\n")
    return told


def test_a_share_on_which_locks_and_renames_work_is_taken_and_left_clean(
    tmp_path: Path, mounts: Path
) -> None:
    filesystems.refuse_unshared(tmp_path / "home", mounts)
    assert list((tmp_path / "home" / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "broken",
    [
        "    sys.exit(7)\n",  # a lock that keeps nobody out: the other process goes on
        'os.rename(path + ".new", path + ".renamed")',  # a file that never comes
    ],
)
def test_a_share_on_which_they_do_not_work_is_refused(
    tmp_path: Path, mounts: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    assert broken in filesystems._ANOTHER
    without = filesystems._ANOTHER.replace(broken, "    pass\n" if broken.startswith(" ") else "")
    monkeypatch.setattr(filesystems, "_ANOTHER", without)
    with pytest.raises(OSError, match=r"do not work on the file system of the data folder \(nfs4\)"):
        filesystems.refuse_unshared(tmp_path / "home", mounts)


def test_a_local_disk_is_not_tried(tmp_path: Path) -> None:
    filesystems.refuse_unshared(tmp_path / "no such folder")
    assert list(tmp_path.iterdir()) == []
