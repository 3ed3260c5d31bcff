"""Several processes learn as one would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from flowgrpo.world import World

ROOT = Path(__file__).resolve().parents[2]


def learn(
    folder: Path, out: Path, processes: int, *kinds: str, **environment: str
) -> list[dict[str, Tensor]]:
    """What each process wrote."""
    out.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    start = [sys.executable, *(launcher if processes > 1 else [])]
    command = [*start, "-m", "tests.flowgrpo.learn_together", str(folder), str(out), *kinds]
    given = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [load_file(path) for path in sorted(out.iterdir())]


def assert_same_update(got: Tensor, wanted: Tensor) -> None:
    """Equal but for rounding. Adam divides by the gradient's own size, so where that is next to nothing, its
    rounding is a step of its own: one element in a hundred may be off by a step's half, 5e-4."""
    assert got.shape == wanted.shape
    apart = (got - wanted).abs()
    assert (apart > 2e-4 + 1e-3 * wanted.abs()).float().mean() <= 0.01
    assert apart.max() <= 5e-4 + 1e-3 * wanted.abs().max()


@pytest.mark.timeout(400)
def test_two_processes_give_the_samples_and_the_gradient_of_one_with_twice_the_batch(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Pitfalls 12 and 13."""
    (alone,) = learn(tiny_folder, tmp_path / "one", 1)
    first, second = learn(tiny_folder, tmp_path / "two", 2)
    for held in (alone.pop("held 0"), first.pop("held 0"), second.pop("held 1")):
        assert held == 1
    together = first | second
    assert together.keys() == alone.keys()
    for name in alone:
        if name.startswith("latents 1"):
            assert torch.equal(together[name], alone[name]), name
        assert_same_update(together[name], alone[name])
    torch.testing.assert_close(first["norm 1"], alone["norm 1"], rtol=1e-4, atol=1e-6)
    shared = [name for name in first if "lora" in name]
    assert shared
    assert all(torch.equal(first[name], second[name]) for name in shared)


def test_groups_are_never_split_and_none_is_forgotten() -> None:
    for size in (1, 2, 3, 5):
        shares = [World(rank, size).mine(7) for rank in range(size)]
        assert sorted(group for share in shares for group in share) == list(range(7))


def test_one_process_alone_changes_nothing() -> None:
    world, parameter = World(), nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    world.sum_gradients([parameter])
    assert parameter.grad.tolist() == [1.0, 2.0]
    assert world.total({"a": 2.0}) == {"a": 2.0}
    assert world.peak({"a": 2.0}) == {"a": 2.0}
    assert world.agree(True)
    assert not world.agree(False)
    column = torch.arange(6.0).view(3, 2)
    assert torch.equal(world.gather_groups({"r": column}, 3)["r"], column)


@pytest.mark.parametrize(("processes", "said"), [("1", "a word\nfarewell\n"), ("2", "a word\n")])
def test_a_process_of_several_leaves_with_what_it_said_and_without_a_farewell(
    processes: str, said: str
) -> None:
    program = (
        "import atexit; from flowgrpo.world import leave; atexit.register(print, 'farewell'); "
        "print('a word'); leave(3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env=os.environ | {"WORLD_SIZE": processes}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, said)
