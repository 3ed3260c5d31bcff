"""A base of which each process holds its share gives what a whole one gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flowgrpo.world import World
from tests.flowgrpo.test_world import assert_same_update, learn
from tests.tiny import tiny_sdxl
from tests.tiny_flow import tiny_flux, tiny_sd3

SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
"""As accelerate's launcher sets them for configs/fsdp.yaml."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("base", "kinds"),
    [
        (tiny_sdxl, ("uneven", "guided")),
        (tiny_sd3, ("dead", "recompute", "guided")),
        (tiny_flux, ("uneven", "recompute", "dpo")),
    ],
    ids=lambda value: value.__name__ if callable(value) else " ".join(value),
)
def test_two_processes_with_half_the_base_each_learn_what_one_with_all_of_it_learns(
    base: Callable[[Path], Path], kinds: tuple[str, ...], tmp_path: Path
) -> None:
    """Whether one has a group more than the other, no live group at all, or a picture to draw alone."""
    folder = base(tmp_path / "base")
    (alone,) = learn(folder, tmp_path / "one", 1, *kinds)
    first, second = learn(folder, tmp_path / "two", 2, *kinds, **SHARDED)
    assert alone.pop("held 0") == 1
    assert first.pop("held 0") + second.pop("held 1") == pytest.approx(1, abs=0.03)
    assert first.keys() ^ second.keys() >= {"picture"}
    together = first | second
    assert together.keys() == alone.keys()
    for name in alone:
        assert_same_update(together[name], alone[name])
    shared = [name for name in first if "lora" in name]
    assert shared
    assert all(torch.equal(first[name], second[name]) for name in shared)


@pytest.mark.parametrize(
    ("name", "got", "wanted"),
    [("FSDP_VERSION", "1", "2"), ("FSDP_CPU_RAM_EFFICIENT_LOADING", "true", "false")],
)
def test_a_sharding_that_we_do_not_do_is_refused(
    name: str, got: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (SHARDED | {"WORLD_SIZE": "2", name: got}).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(
        ValueError, match=f"{name.lower()}: {wanted} in the launcher's configuration, got {got}"
    ):
        World.join()
