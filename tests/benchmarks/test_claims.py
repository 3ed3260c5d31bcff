"""A claim holds where its figures bear it, and only there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.learning import claims, table
from benchmarks.learning.table import Race

GOAL = {"judge": 0.99, "judge/low": 0.98, "judge/high": 1.0, "kid": 0.03, "kid/low": 0.02, "kid/high": 0.04}


def raced(method: str, judges: list[float], kid: float, seconds: float, images: float = 100.0) -> list[Race]:
    """One race per judge; the judge and the reward rise in a straight line."""
    races = []
    for seed, judge in enumerate(judges):
        curve = [
            {
                "updates": step, "images": images * step / 10, "seconds": seconds * step / 10,
                "reward": judge * step / 10, "judge": 0.9 + (judge - 0.9) * step / 10,
            }
            for step in range(11)
        ]  # fmt: skip
        final = {"judge": judge, "kid": kid + seed * 1e-4, "fid": 100 * kid}
        races.append(Race(method, seed, curve, {"fast": final, "guided": GOAL}))
    return races


def verdicts(**races: list[Race]) -> dict[str, bool | None]:
    return {claim.sentence: claim.holds for claim in claims.check(races)}


def test_what_is_better_with_intervals_apart_holds_and_what_overlaps_does_not() -> None:
    ours = raced("ours", [0.99, 0.991, 0.992], 0.03, 10)
    clear = verdicts(ours=ours, ddpo=raced("ddpo", [0.95, 0.951, 0.952], 0.05, 100))
    assert clear["judge: better than ddpo, intervals apart"] is True
    assert clear["kid: better than ddpo, intervals apart"] is True
    close = verdicts(ours=ours, ddpo=raced("ddpo", [0.98, 0.99, 1.0], 0.03, 100))
    assert close["judge: better than ddpo, intervals apart"] is False
    assert close["kid: better than ddpo, intervals apart"] is False


def test_one_seed_has_no_interval_and_shows_nothing() -> None:
    found = verdicts(ours=raced("ours", [0.99], 0.03, 10), ddpo=raced("ddpo", [0.9], 0.05, 100))
    assert found["judge: better than ddpo, intervals apart"] is None


def test_what_was_not_raced_is_not_claimed() -> None:
    found = verdicts(ours=raced("ours", [0.99, 0.99], 0.03, 10))
    assert set(found.values()) == {None}
    assert claims.check({}) == []


@pytest.mark.parametrize(("kid", "holds"), [(0.039, True), (0.045, False)])
def test_a_distance_has_to_fall_by_a_fifth_against_continued_sft(kid: float, holds: bool) -> None:
    found = verdicts(ours=raced("ours", [0.99] * 3, kid, 10), sft=raced("sft", [0.95] * 3, 0.05, 5))
    assert found["KID or FID is lower than continued SFT's by a fifth at least"] is holds


@pytest.mark.parametrize(("seconds", "holds"), [(30.0, True), (60.0, False)])
def test_the_time_to_ddpos_reward_is_read_off_the_curve(seconds: float, holds: bool) -> None:
    found = verdicts(
        ours=raced("ours", [0.99] * 3, 0.03, seconds), ddpo=raced("ddpo", [0.95] * 3, 0.05, 90.0)
    )
    assert found["reaches DDPO's final reward in at most a third of DDPO's computing"] is holds


@pytest.mark.parametrize(("judge", "holds"), [(0.985, True), (0.97, False)])
def test_what_is_to_be_reached_is_reached_within_its_interval(judge: float, holds: bool) -> None:
    base = raced("base", [0.96], 0.06, 0.0)
    found = verdicts(ours=raced("ours", [judge] * 3, 0.03, 10), base=base)
    assert found["judge: 8 steps without guidance reach the base's 16 guided ones"] is holds
    assert found["kid: 8 steps without guidance reach the base's 16 guided ones"] is True


def test_seeds_that_differ_much_do_not_reach_what_their_mean_does_not() -> None:
    base = raced("base", [0.96], 0.06, 0.0)
    found = verdicts(ours=raced("ours", [0.94, 0.97, 1.0], 0.03, 10), base=base)
    assert found["judge: 8 steps without guidance reach the base's 16 guided ones"] is False


def test_cost_and_gain_are_per_image() -> None:
    ours = raced("ours", [0.99] * 3, 0.03, 20, images=100)
    found = verdicts(ours=ours, published=raced("published", [0.99] * 3, 0.03, 100, images=50))
    assert found["an image costs at most 0.3 of one by all steps with guidance"] is True
    assert found["learns at least as much per image as all steps with guidance"] is False


def test_races_come_back_from_disk_and_unfinished_ones_do_not(tmp_path: Path) -> None:
    done, cut = ({"method": "ours", "seed": seed, "curve": [{"seconds": 1.0}]} for seed in (0, 1))
    (tmp_path / "ours-0.json").write_text(json.dumps(done | {"final": {"fast": {"judge": 1.0}}}))
    (tmp_path / "ours-1.json").write_text(json.dumps(cut | {"final": {}}))
    assert [race.seed for race in table.load(tmp_path)["ours"]] == [0]


def test_a_curve_has_the_points_that_every_seed_was_measured_at() -> None:
    often = Race("ours", 0, [{"updates": step, "judge": 0.9} for step in (0, 10, 20, 30, 40)], {})
    seldom = Race("ours", 1, [{"updates": step, "judge": 0.7} for step in (0, 20, 40)], {})
    found = table.measured_by_all([often, seldom])
    assert sorted(found) == [0, 20, 40]
    assert [point["judge"] for point in found[20]] == [0.9, 0.7]
