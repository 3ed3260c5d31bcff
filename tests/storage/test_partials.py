"""Unfinished work stands beside its place, locked, and goes: by who began it, or by the next one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.partials import partial_of


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("is_folder", [False, True])
def test_finished_work_takes_its_place_and_unfinished_work_leaves_nothing(
    tmp_path: Path, is_folder: bool
) -> None:
    with partial_of(tmp_path / "a", is_folder=is_folder) as partial:
        partial.rename(tmp_path / "a")
    assert names(tmp_path) == ["a"]
    with pytest.raises(ZeroDivisionError), partial_of(tmp_path / "b", is_folder=is_folder):
        _ = 1 / 0
    assert names(tmp_path) == ["a"]


def test_the_next_one_clears_up_after_the_dead_and_leaves_alone_who_is_at_work(tmp_path: Path) -> None:
    (tmp_path / ".a.1.partial").mkdir()
    (tmp_path / ".a.1.partial" / "app.db").touch()
    (tmp_path / ".a.2.partial").touch()
    (tmp_path / ".b.3.partial").touch()
    with partial_of(tmp_path / "a") as first, partial_of(tmp_path / "a", is_folder=True) as second:
        assert names(tmp_path) == sorted([".b.3.partial", first.name, second.name])
    assert names(tmp_path) == [".b.3.partial"]


def test_a_name_with_brackets_is_a_name_like_any_other(tmp_path: Path) -> None:
    (tmp_path / ".a[1].zip.7.partial").touch()
    with partial_of(tmp_path / "a[1].zip"):
        pass
    assert names(tmp_path) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / ".a.1.partial").symlink_to(tmp_path / "precious")
    with partial_of(tmp_path / "a"):
        pass
    assert names(tmp_path) == [".a.1.partial", "precious"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_many_who_begin_at_once_neither_refuse_nor_remove_each_other(tmp_path: Path, is_folder: bool) -> None:
    def begin_often(_: int) -> None:
        for _ in range(100):
            with partial_of(tmp_path / "a", is_folder=is_folder) as partial:
                assert partial.exists()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin_often, range(4)))
    assert names(tmp_path) == []
