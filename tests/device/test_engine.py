"""The engine on this machine's device, in the precisions that people use there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowgrpo.checkpoint import load_checkpoint, save_checkpoint
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import Rollout, SampleSettings, rescore, rows_of, sample_group
from flowgrpo.runs.memory import free, is_shortage
from tests.device.conftest import DTYPES, needs_gpu
from tests.flowgrpo.conftest import same, state_of
from tests.flowgrpo.variants import REWARDED, judged, run

SETTINGS = SampleSettings(
    num_steps=4, guidance_scale=3.0, width=32, height=32, micro_batch_size=4, window=range(2)
)


def tuned(folder: Path, device: torch.device, dtype: torch.dtype) -> Policy:
    """A policy with an adapter that changes something, and the same on every device."""
    policy = load_policy(folder, device=device, dtype=dtype)
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter), alpha=0.02)
    return policy


def a_group(policy: Policy, size: int = 6, **more: object) -> Rollout:
    settings = {**SETTINGS, **more}
    return sample_group(policy, "red hair", seeds=range(size), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("recomputes", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_before_the_first_step_every_ratio_is_exactly_one(
    base: Path, device: torch.device, dtype: torch.dtype, recomputes: bool
) -> None:
    """The pass with gradients must choose the same arithmetic as the one without."""
    policy = tuned(base, device, dtype)
    if recomputes:
        policy.enable_gradient_checkpointing()
    rollout = a_group(policy)
    assert rollout.is_finite.all()
    for stored in rollout.transitions:
        assert stored.latents.dtype == stored.next_latents.dtype == dtype
        for rows in rollout.micro_batches:
            taken, told = rows_of(stored, rows), rollout.conditioning.rows(rows)
            velocity = policy.velocity(taken.latents, stored.t, told, rollout.guidance_scale)
            log_prob = rescore(taken, velocity).log_prob
            assert log_prob is not None
            assert log_prob.requires_grad
            assert torch.equal(log_prob, stored.log_prob[rows])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_seeds_give_the_same_group_twice(
    base: Path, device: torch.device, dtype: torch.dtype
) -> None:
    policy = tuned(base, device, dtype)
    assert torch.equal(a_group(policy).images, a_group(policy).images)


@needs_gpu
def test_in_float32_it_draws_what_the_cpu_draws(base: Path, device: torch.device) -> None:
    with torch.backends.cudnn.flags(allow_tf32=False):  # torch's default on a GPU, 10 bits of mantissa
        here, there = (a_group(tuned(base, one, torch.float32)) for one in (device, torch.device("cpu")))
    torch.testing.assert_close(here.latents.cpu(), there.latents, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REWARDED)
def test_every_algorithm_learns_and_is_read_back(
    sdxl: Path, device: torch.device, tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    def fresh() -> Learner:
        policy = load_policy(sdxl, device=device, dtype=dtype)
        policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
        return Learner(policy, UpdateConfig(learning_rate=1e-3), REWARDED[name])

    learner = fresh()
    before = state_of(learner.policy)
    rollouts = [a_group(learner.policy)]
    for _ in range(2):
        (metrics,) = run(learner, rollouts, judged(rollouts))
        assert not metrics.is_skipped
    assert not same(before, state_of(learner.policy))
    save_checkpoint(tmp_path / "000002", learner, {})
    again = fresh()
    load_checkpoint(tmp_path / "000002", again)
    assert same(state_of(again.policy), state_of(learner.policy))
    (first,), (second,) = (run(one, rollouts, judged(rollouts)) for one in (learner, again))
    assert second.loss == pytest.approx(first.loss, rel=1e-3)


def test_a_merged_adapter_draws_what_the_live_one_draws(
    base: Path, device: torch.device, tmp_path: Path
) -> None:
    policy = tuned(base, device, torch.float32)
    save_checkpoint(tmp_path / "000001", Learner(policy, UpdateConfig()), {})
    other = load_policy(base, device=device, dtype=torch.float32)
    plain = a_group(other, window=None).latents
    other.load_adapter(tmp_path / "000001", "raw")
    merged, live = (a_group(one, window=None).latents for one in (other, policy))
    assert (merged - live).abs().mean() < (plain - live).abs().mean() / 10


def test_convolutions_lie_as_the_device_wants_them(sdxl: Path, device: torch.device) -> None:
    policy = tuned(sdxl, device, torch.float32)
    convolutions = [m.weight for m in policy.network.modules() if isinstance(m, torch.nn.Conv2d)]
    is_last = all(weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions)
    assert is_last == (device.type == "cpu")


@needs_gpu
def test_text_encoders_leave_the_device_once_they_have_read(base: Path, device: torch.device) -> None:
    policy = load_policy(base, device=device)
    policy.encode(["red hair"], guided=True, width=64, height=64)
    parts = (part for name, part in policy.pipeline.components.items() if name.startswith("text_encoder"))
    assert {weight.device.type for part in parts if part for weight in part.parameters()} == {"cpu"}


@needs_gpu
def test_a_shortage_of_memory_is_told_from_other_errors(sdxl: Path, device: torch.device) -> None:
    policy = load_policy(sdxl, device=device)
    free()
    torch.cuda.set_per_process_memory_fraction(1e-3, device)
    try:
        with pytest.raises(torch.OutOfMemoryError) as caught:
            a_group(policy, size=512, micro_batch_size=512, width=512, height=512)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert is_shortage(caught.value)
    free()
    assert a_group(policy, size=2).is_finite.all()
