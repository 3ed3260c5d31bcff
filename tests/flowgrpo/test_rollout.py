from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowgrpo import kernels
from flowgrpo.config import LoraConfig, RolloutConfig
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import (
    Rollout,
    StoredTransition,
    Visit,
    denoise,
    rescore,
    rollout_settings,
    rows_of,
    sample_group,
)  # fmt: skip
from flowgrpo.seeds import group_seeds
from tests.flowgrpo.conftest import SETTINGS, a_group


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_before_the_first_step_every_ratio_is_exactly_one(tuned: Policy, guidance_scale: float) -> None:
    rollout = a_group(tuned, guidance_scale=guidance_scale)
    assert [stored.step for stored in rollout.transitions] == [0, 1]
    for stored in rollout.transitions:
        for rows in rollout.micro_batches:
            log_prob = replay(tuned, rollout, stored, rows).log_prob
            assert log_prob is not None
            assert log_prob.requires_grad
            assert (log_prob - stored.log_prob[rows]).exp().eq(1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_a_replay_is_the_draw_too(tiny_folder: Path, dtype: torch.dtype) -> None:
    policy = load_policy(tiny_folder, dtype=dtype)
    policy.attach_lora(LoraConfig(rank=4))
    rollout = a_group(policy, guidance_scale=2.0)
    assert rollout.is_finite.all()
    for stored in rollout.transitions:
        assert stored.latents.dtype == stored.next_latents.dtype == dtype
        assert stored.log_prob.dtype == torch.float32
        for rows in rollout.micro_batches:
            log_prob = replay(policy, rollout, stored, rows).log_prob
            assert log_prob is not None
            assert torch.equal(log_prob, stored.log_prob[rows])


def replay(policy: Policy, rollout: Rollout, stored: StoredTransition, rows: slice) -> kernels.Transition:
    """Some rows of a stored transition again, through the policy as it is now."""
    taken, conditioning = rows_of(stored, rows), rollout.conditioning.rows(rows)
    return rescore(taken, policy.velocity(taken.latents, stored.t, conditioning, rollout.guidance_scale))


def test_a_replay_sees_the_weights_as_they_are_now(tuned: Policy) -> None:
    rollout = a_group(tuned)
    with tuned.reference(), torch.no_grad():
        other = replay(tuned, rollout, rollout.transitions[0], slice(0, 4)).log_prob
    assert other is not None
    assert not torch.equal(other, rollout.transitions[0].log_prob[:4])


def test_transitions_follow_on_one_another(policy: Policy) -> None:
    rollout = a_group(policy)
    for stored, following in zip(rollout.transitions[:-1], rollout.transitions[1:], strict=True):
        assert stored.s == following.t
        assert torch.equal(stored.next_latents, following.latents)


def test_the_same_seeds_give_the_same_group_and_other_seeds_another(policy: Policy) -> None:
    first, second = a_group(policy), a_group(policy)
    assert torch.equal(first.images, second.images)
    assert len({tuple(latents.flatten().tolist()) for latents in first.latents}) == 6
    other = a_group(policy, run_key=(1,))
    assert not torch.equal(first.latents, other.latents)


def test_a_sample_does_not_depend_on_its_neighbours(policy: Policy) -> None:
    group = sample_group(policy, "red hair", seeds=[3, 4, 5], **(SETTINGS | {"window": range(2)}))
    alone = sample_group(policy, "red hair", seeds=[4], **(SETTINGS | {"window": range(2)}))
    torch.testing.assert_close(group.latents[1:2], alone.latents, rtol=1e-5, atol=1e-4)


def test_micro_batches_do_not_change_a_group(policy: Policy) -> None:
    whole, parts = a_group(policy, micro_batch_size=6), a_group(policy, micro_batch_size=4)
    torch.testing.assert_close(whole.latents, parts.latents, rtol=1e-5, atol=1e-4)
    assert parts.micro_batches == [slice(0, 4), slice(4, 6)]


def test_images_are_what_eight_bits_hold(policy: Policy) -> None:
    rollout = a_group(policy)
    assert rollout.images.shape == (6, 3, 16, 16)
    assert torch.equal(rollout.images_uint8.float() / 255, rollout.images)


def test_progress_counts_network_calls_and_ends_with_the_rollout(policy: Policy) -> None:
    seen = list(denoise(policy, ["red hair"] * 6, seeds=range(6), **(SETTINGS | {"micro_batch_size": 4})))
    assert [(progress.done, progress.total) for progress in seen] == [(done, 8) for done in range(1, 9)]
    assert [progress.rollout is None for progress in seen] == [True] * 7 + [False]


def test_gradients_are_off_only_inside(policy: Policy) -> None:
    steps = denoise(policy, ["red hair"], seeds=[0], **SETTINGS)
    next(steps)
    assert torch.is_grad_enabled()
    steps.close()
    assert torch.is_grad_enabled()


def test_a_runs_window_and_noise_follow_from_its_counters() -> None:
    config = RolloutConfig(num_steps=8, window_size=3)
    settings = rollout_settings(config, 32, 7, 1, 2)
    assert settings == rollout_settings(config, 32, 7, 1, 2)
    assert settings["run_key"] == (7, 1, 2)
    starts = {rollout_settings(config, 32, 7, update, 0)["window"] for update in range(30)}
    assert starts == {(start, start + 1, start + 2) for start in range(4)}
    assert group_seeds(7, 1, 2, 4) != group_seeds(7, 2, 2, 4)


def test_a_broken_sample_is_told_and_leaves_the_others_alone(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, velocity = a_group(policy, guidance_scale=2.0), policy.velocity_and_half

    def overflowing(latents: torch.Tensor, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        result, half = velocity(latents, *rest)  # type: ignore[arg-type]
        assert half is not None
        result[1] = half[1] = float("nan")
        return result, half

    monkeypatch.setattr(policy, "velocity_and_half", overflowing)
    broken = a_group(policy, micro_batch_size=6, guidance_scale=2.0, held=(3,))
    kept: list[StoredTransition | Visit] = [*broken.transitions, *broken.visits]
    assert all(one.unconditional is not None and one.unconditional.isfinite().all() for one in kept)
    assert broken.is_finite.tolist() == [True, False, True, True, True, True]
    torch.testing.assert_close(broken.latents[2:], good.latents[2:], rtol=1e-5, atol=1e-4)
    for stored in broken.transitions:
        assert stored.latents.isfinite().all()
        assert stored.next_latents.isfinite().all()
        assert stored.log_prob.isfinite().all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seeds": []}, "at least one"),
        ({"num_steps": 0}, "num_steps must be between"),
        ({"window": range(2, 4)}, "the window must lie before step 3"),
        ({"width": 13}, "multiple of 4"),
        ({"micro_batch_size": 0}, "micro_batch_size must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    policy: Policy, change: dict[str, object], sentence: str
) -> None:
    settings = {"seeds": [1, 2], **SETTINGS, **change}
    with pytest.raises(ValueError, match=sentence):
        sample_group(policy, "red hair", **settings)  # type: ignore[arg-type]


def test_nothing_of_a_rollout_has_a_gradient_and_the_caller_keeps_its_own(tuned: Policy) -> None:
    rollout = None
    for progress in denoise(tuned, ["red hair"] * 2, seeds=[0, 1], **(SETTINGS | {"window": range(2)})):
        assert torch.is_grad_enabled()
        rollout = progress.rollout
    assert rollout is not None
    assert not rollout.latents.requires_grad
    assert not any(x.next_latents.requires_grad for x in rollout.transitions)
