from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from flowgrpo.starter.training import Plan, Progress, fit, learning_rate

PLAN = Plan(steps=60, learning_rate=1e-2, save_every_seconds=0.0)


class _InterruptionError(Exception):
    pass


def _modules() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"net": nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))})


def _run(state: Path, stop_at: int | None = None) -> tuple[nn.ModuleDict, list[Progress]]:
    modules = _modules()

    def loss(step: int, generator: Generator) -> dict[str, Tensor]:
        if step == stop_at:
            raise _InterruptionError
        x = torch.randn(16, 4, generator=generator)
        return {"mse": (modules["net"](x)[:, 0] - x.sum(1)).pow(2).mean(), "_step": torch.tensor(float(step))}

    return modules, list(fit("toy", modules, loss, PLAN, state))


def test_an_interrupted_stage_ends_with_the_same_weights_to_the_last_bit(tmp_path: Path) -> None:
    whole, _ = _run(tmp_path / "whole.pt")
    with pytest.raises(_InterruptionError):
        _run(tmp_path / "parts.pt", stop_at=37)
    parts, _ = _run(tmp_path / "parts.pt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_the_loss_falls_and_reported_terms_do_not_enter_it(tmp_path: Path) -> None:
    _, progress = _run(tmp_path / "state.pt")
    assert [p.step for p in progress] == [50, 60]
    assert progress[-1].terms["mse"] < 4.0  # the variance of the target
    assert "step" in str(progress[-1])


def test_a_finished_stage_only_loads(tmp_path: Path) -> None:
    first, _ = _run(tmp_path / "state.pt")
    second, progress = _run(tmp_path / "state.pt", stop_at=0)
    assert progress == []
    assert all(torch.equal(t, second.state_dict()[n]) for n, t in first.state_dict().items())


def test_the_rate_warms_up_and_decays_to_a_fiftieth() -> None:
    plan = Plan(steps=1000, learning_rate=1.0)
    rates = [learning_rate(plan, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[99] > 0.97
    assert rates[-1] == pytest.approx(0.02, abs=1e-3)
