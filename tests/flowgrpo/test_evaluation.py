from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from flowgrpo.evaluation import (
    KID,
    Difference,
    Evaluator,
    Measurements,
    compare,
    kernel_distance,
)
from flowgrpo.metrics.intervals import Figure
from flowgrpo.starter.damage import degrade
from flowgrpo.starter.vocabulary import SLOTS
from tests.untrained import portraits, untrained_rewards


def measured(column: np.ndarray, features: Tensor) -> Measurements:
    return Measurements({"judge": column}, features, {"judge": "judge 1", KID: "efflite0"})


def gaussian(*shape: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + shift


def by_name(differences: list[Difference]) -> dict[str, Difference]:
    return {difference.metric: difference for difference in differences}


def test_the_same_images_differ_by_exactly_nothing() -> None:
    one = measured(np.linspace(0, 1, 20), gaussian(20, 3, 8, seed=0))
    for difference in compare(one, one, gaussian(50, 8, seed=1)):
        assert difference.change == Figure(0, 0, 0)
        assert difference.num_prompts == 20
        assert difference.num_images == 60


def test_a_difference_is_paired_by_prompt() -> None:
    """Prompts differ far more than the models do: unpaired, this small gain would drown."""
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, 40)
    gain = 0.05 + rng.normal(0, 0.02, 40)
    features = gaussian(40, 2, 8, seed=0)
    difference = compare(measured(base, features), measured(base + gain, features), features[:, 0])[0]
    assert difference.change.value == pytest.approx(gain.mean())
    assert 0.04 < difference.change.low < gain.mean() < difference.change.high < 0.07
    assert difference.base.high - difference.base.low > 0.4


def test_the_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(1)
    names = [f"metric {number}" for number in range(300)]
    features = torch.zeros(40, 1, 2)
    base = Measurements({name: np.zeros(40) for name in names}, features, dict.fromkeys([*names, KID], ""))
    tuned = replace(base, columns={name: rng.normal(0.3, 1, 40) for name in names})
    changes = [difference.change for difference in compare(base, tuned, gaussian(5, 2, seed=0))[:-1]]
    covered = [change.low <= 0.3 <= change.high for change in changes]
    assert 0.90 <= np.mean(covered) <= 0.98


def test_a_prompt_to_which_a_metric_does_not_apply_is_left_out() -> None:
    column = np.array([1.0, np.nan, 3.0])
    features = gaussian(3, 2, 4, seed=0)
    difference = compare(measured(column, features), measured(column + 1, features), features[:, 0])[0]
    assert difference.base.value == 2
    assert difference.change.value == 1


def test_a_metric_that_applies_nowhere_is_nan() -> None:
    column = np.full(3, np.nan)
    features = gaussian(3, 2, 4, seed=0)
    assert math.isnan(
        compare(measured(column, features), measured(column, features), features[:, 0])[0].base.value
    )


def test_unequal_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="same prompts and seeds"):
        compare(
            measured(np.zeros(3), gaussian(3, 2, 4, seed=0)),
            measured(np.zeros(2), gaussian(2, 2, 4, seed=0)),
            gaussian(9, 4, seed=1),
        )


def test_kid_equals_its_definition() -> None:
    features, reference = gaussian(12, 5, seed=0), gaussian(30, 5, seed=1, shift=0.4)
    mean, std = reference.mean(0), reference.std(0)
    x, y = (features - mean) / std, (reference - mean) / std

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 5 + 1) ** 3)

    xx = [kernel(x[i], x[j]) for i in range(12) for j in range(12) if i != j]
    yy = [kernel(y[i], y[j]) for i in range(30) for j in range(30) if i != j]
    xy = [kernel(a, b) for a in x for b in y]
    expected = np.mean(xx) + np.mean(yy) - 2 * np.mean(xy)
    assert kernel_distance(features, reference).value == pytest.approx(expected, rel=1e-4)


def test_kid_of_one_distribution_is_near_zero_and_grows_with_the_distance() -> None:
    reference = gaussian(300, 16, seed=0)
    figures = [
        kernel_distance(gaussian(200, 16, seed=1, shift=shift), reference) for shift in (0.0, 0.3, 1.0)
    ]
    assert figures[0].low <= 0 <= figures[0].high
    assert figures[0].value < figures[1].value < figures[2].value
    assert figures[1].low > 0


@pytest.fixture(scope="module")
def drawn() -> tuple[Tensor, list[str]]:
    torch.set_num_threads(1)
    return portraits(num_prompts=6, num_seeds=3)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory, drawn: tuple[Tensor, list[str]]) -> Evaluator:
    return Evaluator(untrained_rewards(tmp_path_factory.mktemp("weights")), drawn[0].flatten(0, 1))


def test_every_metric_of_the_report_is_measured(
    evaluator: Evaluator, drawn: tuple[Tensor, list[str]]
) -> None:
    images, prompts = drawn
    blurred = degrade(images.flatten(0, 1), "blur", torch.ones(18), torch.Generator()).unflatten(0, (6, 3))
    base, tuned = evaluator.measure(blurred, prompts), evaluator.measure(images, prompts)
    differences = by_name(compare(base, tuned, evaluator.reference))
    slots = {f"judge/{slot.name}" for slot in SLOTS}
    assert set(differences) == {"judge", *slots, "clip", "quality", "diversity", KID}
    assert differences[KID].change.value < 0  # the sharp ones look more like renders
    assert 0 <= differences["judge"].base.value <= 1
    assert "judge" in differences["judge/mouth"].extractor
    assert set(differences["clip"].to_json()) >= {"base", "tuned", "difference", "low", "high", "extractor"}


def test_diversity_is_the_mean_distance_inside_a_prompts_group(
    evaluator: Evaluator, drawn: tuple[Tensor, list[str]]
) -> None:
    images, prompts = drawn
    copies = images[:, :1].expand(-1, 3, -1, -1, -1)
    assert evaluator.measure(copies, prompts).columns["diversity"].max() < 1e-5
    assert evaluator.measure(images, prompts).columns["diversity"].min() > 0.02
    assert np.isnan(evaluator.measure(images[:, :1], prompts).columns["diversity"]).all()


def test_a_metric_that_no_prompt_asks_for_is_null_in_a_report() -> None:
    nothing = measured(np.full(3, np.nan), gaussian(3, 2, 8, seed=0))
    written = json.dumps(
        [one.to_json() for one in compare(nothing, nothing, gaussian(20, 8, seed=1))], allow_nan=False
    )
    assert '"base": null' in written
