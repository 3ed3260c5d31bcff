"""Each guard fires on a synthetic bad curve and stays silent on healthy ones."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.guards import ENTROPY, LATENT_STD, WENT_BACK, Alarm, alarms
from flowgrpo.spikes import WARM_UP, UsualNorm

BASE = {LATENT_STD: 1.0, ENTROPY: 4.0, "failed_share/clip": 0.0}
HEALTHY = {
    "policy/skipped": 0.0,
    "groups/dead_share": 0.1,
    "policy/ratio_max_deviation": 0.0,
    "policy/clip_fraction": 0.05,
    "policy/ratio_mean": 1.0,
    "policy/spike": 0.0,
    "reward/clip": 0.3,
    "reward_std/clip": 0.02,
    "failed_share/clip": 0.0,
    "seconds/rollout": 9.0,
    "seconds/reward": 1.0,
    "seconds/update": 9.0,
    LATENT_STD: 1.0,
    ENTROPY: 4.0,
}


def history(updates: int = 30, last: int = 1, **change: float) -> list[dict[str, float]]:
    """A healthy run whose last updates differ as `change` says."""
    named = {name.replace("__", "/"): value for name, value in change.items()}
    return [dict(HEALTHY)] * (updates - last) + [HEALTHY | named] * last


def noisy(updates: int, seed: int, power: float = 1.0) -> list[dict[str, float]]:
    """A run that learns: the reward rises, the KL grows with a power of the updates, all of it noisy."""
    chance = random.Random(seed)
    return [
        HEALTHY
        | {
            "reward/clip": 0.3 + 0.001 * n + chance.gauss(0, 0.01),
            "reward_std/clip": 0.02 * math.exp(chance.gauss(0, 0.2)),
            "policy/kl": 1e-6 * (n + 1) ** power * math.exp(chance.gauss(0, 0.3)),
            "policy/ratio_mean": 1 + chance.gauss(0, 0.01),
            "policy/skipped": float(chance.random() < 0.01),
            "groups/dead_share": chance.choice([0.0, 0.25, 0.5]),
            "failed_share/clip": chance.choice([0.0, 0.0, 0.02]),
            "seconds/update": 9 * math.exp(chance.gauss(0, 0.2)),
            LATENT_STD: math.exp(chance.gauss(0, 0.1)),
            ENTROPY: 4 + chance.gauss(0, 0.2),
        }
        for n in range(updates)
    ]


@pytest.mark.parametrize("updates", [0, 1, 5, 100])
def test_a_healthy_run_is_left_alone(updates: int) -> None:
    assert alarms([dict(HEALTHY)] * updates, BASE) == []


def test_metrics_that_are_absent_are_not_judged() -> None:
    assert alarms([{"reward/clip": 0.3}] * 30) == []


@pytest.mark.parametrize(
    ("curve", "name", "level"),
    [
        (history(last=3, policy__skipped=1.0), "skips", "back"),
        (history(10, last=1, policy__skipped=1.0) * 10, "skips", "back"),
        (history(groups__dead_share=0.6), "dead_groups", "warn"),
        (history(last=5, groups__dead_share=1.0), "dead_groups", "pause"),
        (history(policy__ratio_max_deviation=0.1), "ratio_error", "warn"),
        (history(policy__ratio_max_deviation=math.nan), "ratio_error", "warn"),
        (history(policy__clip_fraction=0.7), "clipping", "warn"),
        (history(policy__ratio_mean=0.8), "ratio", "warn"),
        (history(policy__ratio_mean=1.2), "ratio", "warn"),
        (history(reward_std__clip=0.001), "spread", "warn"),
        (history(failed_share__clip=0.2), "unscored", "pause"),
        (history(1, failed_share__clip=0.2), "unscored", "pause"),
        (history(60, last=5, policy__spike=1.0), "spikes", "warn"),
        (history(60, last=20, policy__spike=1.0), "spikes", "pause"),
        (history(reward__clip=0.2), "fall", "back"),
        (history(seconds__update=90.0), "slow", "warn"),
        (history(seconds__rollout=90.0), "slow", "warn"),
        (history(samples__latent_std=3.0), "noise", "back"),
        (history(samples__latent_std=0.1), "noise", "back"),
        (history(samples__entropy=7.5), "noise", "back"),
        (history(samples__entropy=0.5), "noise", "back"),
    ],
)
def test_each_guard_fires_alone(curve: list[dict[str, float]], name: str, level: str) -> None:
    (alarm,) = alarms(curve, BASE)
    assert (alarm.name, alarm.level) == (name, level)
    assert len(alarm.sentence) > 20


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("seed", range(10))
def test_a_noisy_run_that_learns_is_never_stopped(seed: int, power: float) -> None:
    whole = noisy(120, seed, power)
    found = [a for n in range(1, 121) for a in alarms(whole[:n], BASE)]
    assert [a for a in found if a.level != "warn"] == []
    assert [a for a in found if a.name in ("kl", "spikes", "ratio", "slow")] == []


@pytest.mark.parametrize(("times", "level"), [(6.0, "warn"), (30.0, "pause")])
def test_a_policy_that_runs_away_from_the_base_is_told(times: float, level: str) -> None:
    curve = noisy(60, 0, power=2.0)
    for metrics in curve[-3:]:
        metrics["policy/kl"] *= times
    assert [(a.name, a.level) for a in alarms(curve, BASE)] == [("kl", level)]


def test_one_noisy_kl_is_no_alarm() -> None:
    curve = noisy(60, 0, power=2.0)
    curve[-1]["policy/kl"] *= 100
    assert alarms(curve, BASE) == []


def test_prompts_that_differ_more_than_images_of_one_prompt_are_no_fall_of_the_reward() -> None:
    chance = random.Random(0)
    curve = [HEALTHY | {"reward/clip": chance.uniform(0.2, 0.9)} for _ in range(200)]
    assert [a for n in range(6, 200) for a in alarms(curve[:n], BASE)] == []


def test_a_reward_that_never_worked_pauses_the_run_too() -> None:
    (alarm,) = alarms(history(5, last=5, failed_share__clip=0.2), {"failed_share/clip": 1.0})
    assert (alarm.name, alarm.level, alarm.subject) == ("unscored", "pause", "clip")


def test_five_in_a_hundred_images_without_a_score_are_let_pass_and_six_are_not() -> None:
    assert alarms(history(failed_share__clip=0.05), BASE) == []
    assert [a.level for a in alarms(history(failed_share__clip=0.06), BASE)] == ["pause"]


def test_a_single_skipped_update_is_no_alarm() -> None:
    assert alarms(history(policy__skipped=1.0)) == []


def test_what_a_run_went_back_from_no_longer_counts() -> None:
    bad = history(last=3, policy__skipped=1.0, reward__clip=0.1)
    assert {alarm.name for alarm in alarms(bad)} == {"skips"}
    back = [*bad[:-1], bad[-1] | {WENT_BACK: 20.0}]
    assert alarms(back) == []
    assert alarms([*back, *history(8)]) == []


def test_an_alarm_is_the_same_while_its_numbers_change_and_another_for_another_reward() -> None:
    (one,) = alarms(history(failed_share__clip=0.2))
    (later,) = alarms(history(failed_share__clip=0.3))
    other = Alarm("unscored", "pause", "another", "quality")
    assert one.sentence != later.sentence
    assert one.key == later.key != other.key
    assert later.size > one.size


def norms(seed: int, num: int = 200) -> list[float]:
    chance = random.Random(seed)
    return [0.3 * math.exp(chance.gauss(0, 0.3)) for _ in range(num)]


def usual_after(values: list[float]) -> UsualNorm:
    usual = UsualNorm()
    for value in values:
        usual = usual.after(value)
    return usual


@pytest.mark.parametrize("seed", range(5))
def test_a_spike_is_what_the_norms_before_it_do_not_lead_to_expect(seed: int) -> None:
    usual, spikes = UsualNorm(), 0
    for number, norm in enumerate(norms(seed)):
        assert (usual.bound == math.inf) == (number < WARM_UP)
        spikes += norm > usual.bound
        usual = usual.after(norm)
    assert spikes <= 1
    assert 0.5 < usual.bound < 3.0


def test_a_spike_hardly_widens_what_is_usual_and_what_is_no_norm_does_not_count() -> None:
    usual = usual_after(norms(0))
    assert usual.after(1e6).bound < 1.5 * usual.bound
    assert usual.after(math.nan) == usual.after(math.inf) == usual.after(0.0) == usual


@given(st.lists(st.floats(1e-6, 1e6), min_size=WARM_UP, max_size=WARM_UP))
def test_the_first_norms_are_averaged_evenly(values: list[float]) -> None:
    logs = [math.log(value) for value in values]
    usual = usual_after(values)
    mean = sum(logs) / len(logs)
    assert usual.mean == pytest.approx(mean, abs=1e-9)
    assert usual.variance == pytest.approx(sum((x - mean) ** 2 for x in logs) / len(logs), abs=1e-6)
