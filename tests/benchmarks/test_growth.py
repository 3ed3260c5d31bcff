"""Exponents of known curves come out as they were put in; a quick run writes table, figures and picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import optimize, stats

from benchmarks.common import machine
from benchmarks.growth import report
from benchmarks.growth.__main__ import AXES, main
from benchmarks.growth.axis import Axis, Cost, Measured, measure
from benchmarks.growth.fit import growth_of, line, with_offset

SIZES = (2, 4, 8, 16, 32)


def turns_of(
    costs: Sequence[float], num_turns: int = 3, noise: float = 0.0, seed: int = 0
) -> list[list[float]]:
    """Costs as so many turns measure them, each off by a factor of about 1 + noise."""
    rng = np.random.default_rng(seed)
    return [[cost * math.exp(noise * rng.normal()) for _ in range(num_turns)] for cost in costs]


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0])
def test_the_exponent_of_a_power_is_that_power_and_nothing_is_hidden(power: float) -> None:
    growth = growth_of(SIZES, turns_of([0.3 * size**power for size in SIZES]))
    assert growth.exponent == pytest.approx(power)
    assert growth.half == pytest.approx(0, abs=1e-6)
    assert growth.curve.power == pytest.approx(power, abs=0.011)
    assert not growth.misleads
    assert not growth.is_flat
    assert not growth.is_uncertain


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_an_offset_makes_the_exponent_too_low_and_is_told(power: float, share: float) -> None:
    factor = (1 - share) / SIZES[0] ** power
    growth = growth_of(SIZES, turns_of([share + factor * size**power for size in SIZES]))
    assert growth.exponent < power
    assert growth.misleads
    assert growth.curve.power == pytest.approx(power, abs=0.011)
    assert growth.offset_share == pytest.approx(share, abs=0.01)
    assert growth.curve.off_by < 0.005


def test_a_cost_that_stays_is_flat_whatever_its_noise() -> None:
    for seed in range(20):
        growth = growth_of(SIZES, turns_of([1.0] * len(SIZES), 5, noise=0.03, seed=seed))
        assert growth.is_flat
        assert not growth.misleads


def test_noise_alone_is_told_to_be_too_uncertain() -> None:
    growth = growth_of(SIZES, [[1.0], [8.0], [0.5], [9.0], [4.0]])
    assert growth.is_uncertain
    assert not growth.misleads


def test_slope_and_interval_are_those_of_scipy() -> None:
    seconds = turns_of([size**0.9 for size in SIZES], noise=0.1)
    growth = growth_of(SIZES, seconds)
    found = stats.linregress(np.log(SIZES), np.log([np.median(row) for row in seconds]))
    assert growth.exponent == pytest.approx(found.slope)
    assert growth.half == pytest.approx(stats.t.ppf(0.975, len(SIZES) - 2) * found.stderr)


def test_the_interval_holds_the_true_exponent_in_95_of_100_measurements() -> None:
    x, tries, rng = np.log(SIZES), 2000, np.random.default_rng(0)
    lines = [line(x, x + 0.1 * rng.normal(size=len(x))) for _ in range(tries)]
    held = sum(abs(slope - 1) <= half for slope, half in lines)
    assert 0.93 * tries < held < 0.97 * tries


def test_a_curve_with_an_offset_is_the_least_squares_one_of_scipy() -> None:
    for seed in range(5):
        x, rng = np.array(SIZES, dtype=float), np.random.default_rng(seed)
        costs = (0.2 * seed + x) * np.exp(0.1 * rng.normal(size=len(x)))
        curve = with_offset(x, costs)
        terms = np.stack([np.ones_like(x), x**curve.power], axis=1) / costs[:, None]
        found, left = optimize.nnls(terms, np.ones_like(x))
        assert [curve.offset, curve.factor] == pytest.approx(found, abs=1e-6)
        assert np.linalg.norm(curve.at(x) / costs - 1) == pytest.approx(left)
        others = np.stack([np.ones_like(x), x**0.7], axis=1) / costs[:, None]
        assert left <= optimize.nnls(others, np.ones_like(x))[1] + 1e-9


def test_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="three sizes, got 2"):
        growth_of((1, 2), [[1.0], [2.0]])


def test_sizes_take_turns_from_either_end_and_the_warm_up_does_not_count() -> None:
    asked: list[int] = []

    @contextmanager
    def costs(sizes: Sequence[int]) -> Iterator[Mapping[str, Cost]]:
        def cost(size: int) -> float:
            asked.append(size)
            return 100.0 if len(asked) <= len(sizes) else float(size)

        yield {"a cost": cost}

    (found,) = measure(Axis("an-axis", "things", (1, 2, 3), (1, 2, 3), costs), (1, 2, 3), num_turns=2)
    assert asked == [1, 2, 3, 3, 2, 1, 1, 2, 3]
    assert found == Measured("a cost", (1, 2, 3), [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])


def test_a_row_says_how_to_read_it_and_comes_back_from_disk(tmp_path: Path) -> None:
    axis = AXES["steps"]
    costs = {
        "a power": [float(size) for size in SIZES],
        "an offset": [1.0 + size for size in SIZES],
        "flat": [1.0] * len(SIZES),
    }
    measured = [Measured(what, SIZES, turns_of(row)) for what, row in costs.items()]
    report.save(tmp_path, axis, measured, machine())
    found = report.load(tmp_path, list(AXES.values()))
    assert found == {axis: measured}
    table = report.markdown(found).splitlines()
    assert [line.split(" | ")[-1].removesuffix(" |") for line in table[2:]] == [
        "the exponent counts", "an offset hides growth: its power counts", "hardly grows: 1.00 times",
    ]  # fmt: skip
    assert "| 1.00 ± 0.00 |" in table[2]


def test_a_quick_run_writes_table_figures_and_picture_of_all_that_was_measured(tmp_path: Path) -> None:
    for name in ("annotators", "group-size"):
        main(["--quick", "--only", name, "--out", str(tmp_path)])
    table = (tmp_path / "growth" / "table.md").read_text()
    for name in ("annotators", "group-size"):
        stored = json.loads((tmp_path / "growth" / f"{name}.json").read_text())
        assert stored["machine"]["torch"] in table
        for cost in stored["costs"]:
            assert f"| {cost['what']} |" in table
            assert len(cost["seconds"]) == len(AXES[name].quick)
            assert all(len(row) == 3 and min(row) > 0 for row in cost["seconds"])
    with Image.open(tmp_path / "images" / "growth.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_fewer_than_three_turns_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--turns", "2"])
    assert "three turns" in capsys.readouterr().err
