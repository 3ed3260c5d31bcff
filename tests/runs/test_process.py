from __future__ import annotations

import sys

import pytest

from flowgrpo.runs.process import child_environment

NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


@pytest.mark.skipif(sys.platform != "linux", reason="torch has such blocks on Linux alone")
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:512"}, {"PYTORCH_ALLOC_CONF": "max_split_size_mb:512"}),
        (
            {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512"},
            {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512"},
        ),
    ],
)
def test_a_child_has_memory_that_grows_in_place_unless_a_person_has_set_the_allocator(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], expected: dict[str, str]
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    child = child_environment("MARK", "1")
    assert {name: child[name] for name in NAMES if name in child} == expected
