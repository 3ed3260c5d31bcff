from __future__ import annotations

import math
import random

import pytest

from flowgrpo.guards import alarms, hacking, spike_bound

HEALTHY = {
    "policy/skipped": 0.0,
    "groups/dead_share": 0.1,
    "policy/ratio_max_deviation": 0.0,
    "policy/clip_fraction": 0.05,
    "reward_std/clip": 0.02,
    "unscored_share/clip": 0.0,
    "policy/ratio_mean": 1.0,
    "policy/spike": 0.0,
    "reward/clip": 0.3,
    "seconds/update": 9.0,
}


def history(updates: int = 30, last: int = 1, **change: float) -> list[dict[str, float]]:
    named = {name.replace("__", "/"): value for name, value in change.items()}
    return [dict(HEALTHY)] * (updates - last) + [HEALTHY | named] * last


@pytest.mark.parametrize("updates", [0, 1, 5, 100])
def test_a_healthy_run_is_left_alone(updates: int) -> None:
    assert alarms([dict(HEALTHY)] * updates) == []


def test_metrics_that_are_absent_are_not_judged() -> None:
    assert alarms([{"reward/clip": 0.3}] * 30) == []


@pytest.mark.parametrize(
    ("curve", "name", "level"),
    [
        (history(last=3, policy__skipped=1.0), "skips", "pause"),
        (history(10, last=1, policy__skipped=1.0) * 10, "skips", "pause"),
        (history(groups__dead_share=0.6), "dead_groups", "warn"),
        (history(last=5, groups__dead_share=1.0), "dead_groups", "pause"),
        (history(policy__ratio_max_deviation=0.1), "ratio_error", "warn"),
        (history(policy__ratio_max_deviation=math.nan), "ratio_error", "warn"),
        (history(policy__clip_fraction=0.7), "clipping", "warn"),
        (history(reward_std__clip=0.001), "spread", "warn"),
        (history(unscored_share__clip=0.2), "unscored", "pause"),
        (history(policy__ratio_mean=0.8), "ratio", "warn"),
        (history(60, last=5, policy__spike=1.0), "spikes", "warn"),
        (history(60, last=20, policy__spike=1.0), "spikes", "pause"),
        (history(reward__clip=0.2, reward_std__clip=0.02), "fall", "pause"),
        (history(seconds__update=90.0), "slow", "warn"),
    ],
)
def test_each_guard_fires_alone(curve: list[dict[str, float]], name: str, level: str) -> None:
    (alarm,) = alarms(curve)
    assert (alarm.name, alarm.level) == (name, level)
    assert len(alarm.sentence) > 20


def noisy(updates: int, seed: int) -> list[dict[str, float]]:
    """A run that learns: the reward rises, KL grows with the updates, all of it noisy."""
    chance = random.Random(seed)
    return [
        HEALTHY
        | {
            "reward/clip": 0.3 + 0.001 * n + chance.gauss(0, 0.01),
            "reward_std/clip": 0.02 * math.exp(chance.gauss(0, 0.2)),
            "policy/kl": 1e-4 * (n + 1) * math.exp(chance.gauss(0, 0.2)),
            "policy/ratio_mean": 1 + chance.gauss(0, 0.01),
            "policy/skipped": float(chance.random() < 0.01),
            "groups/dead_share": chance.choice([0.0, 0.25, 0.5]),
            "seconds/update": 9 * math.exp(chance.gauss(0, 0.2)),
        }
        for n in range(updates)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_a_noisy_run_that_learns_is_never_paused(seed: int) -> None:
    whole = noisy(120, seed)
    assert [a for n in range(1, 121) for a in alarms(whole[:n]) if a.level == "pause"] == []


@pytest.mark.parametrize(("times", "level"), [(5.0, "warn"), (20.0, "pause")])
def test_a_policy_that_runs_away_from_the_base_is_told(times: float, level: str) -> None:
    curve = noisy(60, 0)
    curve[-1]["policy/kl"] *= times
    assert [(a.name, a.level) for a in alarms(curve)] == [("kl", level)]


def test_a_spike_is_what_the_norms_before_it_do_not_lead_to_expect() -> None:
    chance = random.Random(0)
    norms = [0.3 * math.exp(chance.gauss(0, 0.3)) for _ in range(200)]
    assert spike_bound(norms[:10]) is None
    bounds = [spike_bound(norms[:n]) for n in range(20, 200)]
    spiked = [norm > (bound or math.inf) for norm, bound in zip(norms[20:], bounds, strict=True)]
    assert sum(spiked) <= 1
    bound = spike_bound(norms)
    assert bound is not None
    assert 0.5 < bound < 3.0
    assert spike_bound([*norms, 1e6]) == pytest.approx(bound, rel=0.5)


@pytest.mark.parametrize("way", [1, -1])
def test_images_that_look_burnt_are_told(way: int) -> None:
    looks = {"saturation": [0.4, 0.4 + way * 0.5]}
    alarm = hacking([], [], [], looks, {"saturation": 0.1})
    assert alarm is not None
    assert (alarm.name, alarm.level) == ("looks", "pause")
    assert ("more" if way > 0 else "less") in alarm.sentence
    assert hacking([], [], [], {"saturation": [0.4, 0.6]}, {"saturation": 0.1}) is None


def test_a_reward_that_never_scored_these_prompts_is_a_warning_only() -> None:
    (alarm,) = alarms(history(5, last=5, unscored_share__clip=0.2))
    assert (alarm.name, alarm.level) == ("unscored", "warn")


def test_a_single_skipped_update_is_no_alarm() -> None:
    assert alarms(history(policy__skipped=1.0)) == []


def test_an_alarm_is_the_same_while_its_numbers_change_and_another_for_another_reward() -> None:
    (one,) = alarms(history(unscored_share__clip=0.2))
    (later,) = alarms(history(unscored_share__clip=0.3))
    (other,) = alarms(history(unscored_share__quality=0.3))
    assert one.sentence != later.sentence
    assert one.key == later.key != other.key


def test_a_reward_that_rises_while_the_judge_falls_is_hacking() -> None:
    alarm = hacking([0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.7, 0.6], [1.0, 1.0, 1.0, 1.0])
    assert alarm is not None
    assert (alarm.name, alarm.level) == ("hacking", "pause")


def test_images_that_become_alike_are_a_collapse() -> None:
    alarm = hacking([0.1, 0.2], [0.8, 0.9], [1.0, 0.6])
    assert alarm is not None
    assert alarm.name == "collapse"


def test_learning_is_no_hacking() -> None:
    assert hacking([0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 0.7, 0.8], [1.0, 0.95, 0.9, 0.9]) is None
    assert hacking([0.4, 0.3, 0.2, 0.1], [0.9, 0.8, 0.7, 0.6], [1.0] * 4) is None
    assert hacking([0.1], [0.9], [1.0]) is None
