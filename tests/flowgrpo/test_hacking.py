"""A reward that is exploited shows in what it does not contain; learning does not look like that."""

from __future__ import annotations

import math
import random

import pytest

from flowgrpo.guards import WENT_BACK, Alarm
from flowgrpo.hacking import certainty, hacking

BASE = {
    "held_out/judge": 0.9,
    "held_out_error/judge": 0.015,
    "held_out/diversity": 0.4,
    "held_out/saturation": 0.4,
    "look_std/saturation": 0.05,
}
JUDGES = ("judge",)
EVERY = 5


def run_of(judges: list[float], rewards: list[float], **last: float) -> list[dict[str, float]]:
    """One grid every five updates, with the judge's mean and the training reward of the stretch before it."""
    history: list[dict[str, float]] = []
    for judge, reward in zip(judges, rewards, strict=True):
        history += [{"reward/mean": reward} for _ in range(EVERY)]
        history[-1] |= {k: v for k, v in BASE.items() if k.startswith("held_out")} | {"held_out/judge": judge}
    history[-1] |= {name.replace("__", "/"): value for name, value in last.items()}
    history[0]["reward/mean"] = 0.1
    return history


RISING = [0.2, 0.3, 0.4]


def names(found: list[Alarm]) -> list[str]:
    assert all(alarm.level == "pause" for alarm in found)
    return [alarm.name for alarm in found]


def test_a_reward_that_rises_while_the_judge_falls_is_hacking() -> None:
    (alarm,) = hacking(BASE, run_of([0.85, 0.8, 0.7], RISING), JUDGES)
    assert (alarm.name, alarm.subject, alarm.age) == ("hacking", "judge", 3 * EVERY)
    assert "the judge fell by 0.2 in 3 evaluations" in alarm.sentence


def test_the_alarm_stands_until_the_next_grid_says_otherwise() -> None:
    bad = run_of([0.85, 0.8, 0.7], RISING)
    assert names(hacking(BASE, [*bad, {"reward/mean": 0.4}], JUDGES)) == ["hacking"]
    assert hacking(BASE, run_of([0.85, 0.8, 0.7, 0.75], [*RISING, 0.5]), JUDGES) == []


@pytest.mark.parametrize(
    ("judges", "rewards"),
    [
        ([0.9, 0.92, 0.95], RISING),
        ([0.85, 0.8, 0.7], [0.3, 0.2, 0.1]),
        ([0.85, 0.8], [0.2, 0.3]),
        ([0.89, 0.885, 0.88], RISING),
        ([0.85, 0.88, 0.7], RISING),
    ],
)
def test_learning_falling_together_and_falls_within_the_error_are_no_hacking(
    judges: list[float], rewards: list[float]
) -> None:
    assert hacking(BASE, run_of(judges, rewards), JUDGES) == []


def test_without_a_judge_only_diversity_and_looks_are_watched() -> None:
    assert hacking(BASE, run_of([0.85, 0.8, 0.7], RISING), ()) == []


def test_images_that_become_alike_are_a_collapse() -> None:
    (alarm,) = hacking(BASE, run_of([0.9, 0.9], [0.2, 0.3], held_out__diversity=0.2), JUDGES)
    assert (alarm.name, alarm.level, alarm.age) == ("collapse", "pause", EVERY)
    assert "50% more alike" in alarm.sentence
    assert hacking(BASE, run_of([0.9], [0.2], held_out__diversity=0.26), JUDGES) == []


def test_a_loss_of_diversity_that_few_images_may_show_by_chance_is_no_collapse() -> None:
    lost = {"held_out__diversity": 0.2}
    assert hacking(BASE, run_of([0.9], [0.2], held_out_error__diversity=0.05, **lost), JUDGES) == []
    assert len(hacking(BASE, run_of([0.9], [0.2], held_out_error__diversity=0.03, **lost), JUDGES)) == 1


@pytest.mark.parametrize(("saturation", "way"), [(0.9, "more"), (0.1, "less")])
def test_images_that_look_burnt_are_told(saturation: float, way: str) -> None:
    (alarm,) = hacking(BASE, run_of([0.9], [0.2], held_out__saturation=saturation), JUDGES)
    assert (alarm.name, alarm.subject) == ("looks", "saturation")
    assert f"far {way} saturation" in alarm.sentence
    assert hacking(BASE, run_of([0.9], [0.2], held_out__saturation=0.55), JUDGES) == []


def test_grids_that_the_run_went_back_from_do_not_count() -> None:
    history = run_of([0.85, 0.8, 0.7], RISING, held_out__diversity=0.1)
    history[-1][WENT_BACK] = 5.0
    assert hacking(BASE, history, JUDGES) == []
    assert hacking(BASE, [*history, *run_of([0.88, 0.85], [0.4, 0.5])], JUDGES) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_learns_from_a_noisy_judge_is_never_called_hacking(seed: int) -> None:
    """Grids share prompts and seeds: each has its half of the noise of a paired difference."""
    chance = random.Random(seed)
    judges = [0.9 + chance.gauss(0, 0.015 / 2**0.5) for _ in range(30)]
    rewards = [0.2 + 0.01 * n + chance.gauss(0, 0.005) for n in range(30)]
    history = run_of(judges, rewards)
    for metrics in history:
        if "held_out/diversity" in metrics:
            metrics["held_out/diversity"] *= 1 + chance.gauss(0, 0.08)
            metrics["held_out/saturation"] += chance.gauss(0, 0.03)
    assert [a for n in range(1, len(history) + 1) for a in hacking(BASE, history[:n], JUDGES)] == []


# Rewards that run ahead of the judge

WEIGHTS = {"bright": 1.0}
PLANTED = BASE | {"held_out/bright": 0.5}


def one_grid(bright: float, judge: float) -> list[dict[str, float]]:
    errors = {"held_out_error__judge": 0.015, "held_out_error__bright": 0.002}
    return run_of([judge], [0.2], held_out__bright=bright, **errors)


@pytest.mark.parametrize(
    ("bright", "judge", "level"),
    [
        (0.52, 0.895, "warn"),
        (0.52, 0.9, "warn"),
        (0.52, 0.91, None),
        (0.52, 0.84, "pause"),
        (0.52, 0.93, None),
        (0.504, 0.895, None),
        (0.504, 0.84, None),
        (0.48, 0.84, None),
    ],
)
def test_a_reward_that_rises_in_every_image_needs_a_judge_that_follows_and_one_grid_is_enough(
    bright: float, judge: float, level: str | None
) -> None:
    found = hacking(PLANTED, one_grid(bright, judge), JUDGES, WEIGHTS)
    assert [(alarm.name, alarm.level) for alarm in found] == ([("hacking", level)] if level else [])
    assert hacking(PLANTED, one_grid(bright, judge), JUDGES) == []


def test_how_certain_a_rise_is_is_weighed_over_the_rewards_that_tell() -> None:
    base = PLANTED | {"held_out/clip": 0.3, "held_out/new": 1.0}
    now = {"held_out/bright": 0.52, "held_out/clip": 0.28, "held_out/new": 9.0}
    now |= {"held_out_error/bright": 0.01, "held_out_error/clip": 0.02}
    assert certainty(base, now, {"bright": 1.0}) == pytest.approx(2.0)
    assert certainty(base, now, {"bright": 1.0, "clip": 3.0, "new": 5.0}) == pytest.approx(-0.25)
    assert certainty(base, now, {"clip": -1.0}) == pytest.approx(1.0)
    assert math.isnan(certainty(base, now, {"new": 1.0}))


@pytest.mark.parametrize(("again", "level"), [(0.9, None), (0.52, "pause")])
def test_a_reward_that_is_another_version_now_is_held_to_what_that_says_of_the_base(
    again: float, level: str | None
) -> None:
    """The values rise from 0.5 to 0.9; whether the images did, the base by the new version tells."""
    history = one_grid(0.9, 0.84)
    history[-1]["held_out_base/bright"] = again
    assert [alarm.level for alarm in hacking(PLANTED, history, JUDGES, WEIGHTS)] == ([level] if level else [])
    assert [alarm.level for alarm in hacking(BASE, history, JUDGES, WEIGHTS)] == ([level] if level else [])


@pytest.mark.parametrize(("again", "found"), [(0.95, []), (0.89, ["hacking"])])
def test_training_rewards_of_two_versions_are_not_taken_for_a_rise(again: float, found: list[str]) -> None:
    history = run_of([0.85, 0.8, 0.7], RISING, held_out__bright=0.9, held_out_error__bright=0.01)
    history[-1]["held_out_base/bright"] = again
    assert names(hacking(PLANTED, history, JUDGES, WEIGHTS)) == found


@pytest.mark.parametrize("seed", range(20))
def test_a_run_whose_judge_rises_half_as_surely_as_its_rewards_never_fires(seed: int) -> None:
    """Grids of one run share prompts and seeds, and most of their noise: between two it is half an error."""
    chance = random.Random(seed)
    history = run_of([0.9] * 30, [0.2 + 0.01 * n for n in range(30)])
    for n, metrics in enumerate(m for m in history if "held_out/judge" in m):
        rise = 6.0 * (1 - 0.8**n)
        metrics["held_out_error/judge"] = metrics["held_out_error/bright"] = 0.01
        metrics["held_out/bright"] = 0.5 + 0.01 * (rise + chance.gauss(0, 0.5))
        metrics["held_out/judge"] = 0.9 + 0.01 * (rise / 2 + chance.gauss(0, 0.5))
    found = [a for n in range(1, len(history) + 1) for a in hacking(PLANTED, history[:n], JUDGES, WEIGHTS)]
    assert found == []
