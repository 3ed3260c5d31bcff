from __future__ import annotations

import math

import pytest

from flowgrpo.guards import alarms, hacking

HEALTHY = {
    "policy/skipped": 0.0,
    "groups/dead_share": 0.1,
    "policy/ratio_max_deviation": 0.0,
    "policy/clip_fraction": 0.05,
    "reward_std/clip": 0.02,
    "unscored_share/clip": 0.0,
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
        (history(unscored_share__clip=0.2), "unscored", "warn"),
    ],
)
def test_each_guard_fires_alone(curve: list[dict[str, float]], name: str, level: str) -> None:
    (alarm,) = alarms(curve)
    assert (alarm.name, alarm.level) == (name, level)
    assert len(alarm.sentence) > 20


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
