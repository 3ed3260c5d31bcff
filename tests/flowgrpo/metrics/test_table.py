"""The table of several models: pairs, counts, and what is refused with a reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from flowgrpo.metrics.distributions import NAMES, Reference
from flowgrpo.metrics.names import in_order, metric_of
from flowgrpo.metrics.table import Cell, Model, tabulate


def model(seed: int, shift: float = 0.0, prompts: int = 12, seeds: int = 3) -> Model:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(prompts, seeds, generator=torch.Generator().manual_seed(0)) + shift
    features = torch.randn(prompts, seeds, 6, generator=generator) + shift
    return Model({"clip": scores}, {"clip": "clip-1"}, features)


def reference(*, allow_small: bool = False) -> Reference:
    return Reference(torch.randn(40, 6, generator=torch.Generator().manual_seed(9)), "efflite0", allow_small)


def with_clip(values: Tensor) -> Model:
    return Model({"clip": values}, {"clip": "clip-1"})


def test_every_model_is_held_against_the_first_at_the_same_prompts_and_seeds() -> None:
    table = tabulate([model(1), model(2, shift=0.5), model(3, shift=1.0)], reference())
    assert table.rows[0]["clip"].change is None
    changes = [row["clip"].change for row in table.rows[1:]]
    assert [change and change.value for change in changes] == pytest.approx([0.5, 1.0])
    assert changes[0] is not None and changes[0].is_clear
    assert changes[0].high - changes[0].low < 1e-6 < table.rows[1]["clip"].figure.high - 1


def test_every_number_says_its_extractor_and_its_images() -> None:
    cells = tabulate([model(1), model(2)], reference()).rows[1]
    assert {cell.key for cell in cells.values()} == {
        "clip@clip-1/n36",
        "kid@efflite0/n36",
        "mmd@efflite0/n36",
    }
    assert all(cell.num_prompts == 12 for cell in cells.values())
    assert cells["mmd"].p is not None


def test_the_same_images_are_the_same_distance_away() -> None:
    table = tabulate([model(1), model(1)], reference(allow_small=True))
    for name in NAMES:
        assert table.rows[0][name].figure == table.rows[1][name].figure
        assert table.rows[1][name].change == (0, 0, 0)


def test_few_images_have_no_fid_precision_or_recall_unless_asked_for() -> None:
    refused = tabulate([model(1)], reference())
    assert set(refused.absent) == {"fid", "precision", "recall"}
    assert "5,000" in refused.absent["fid"] and "below 500" in refused.absent["recall"]
    shown = tabulate([model(1)], reference(allow_small=True))
    assert shown.absent == {}
    fid = shown.rows[0]["fid"]
    assert fid.key == "fid@efflite0-pca9/n36" and "biased" in fid.note
    assert fid.figure.low < fid.figure.value < fid.figure.high
    assert "asked for below 500" in shown.rows[0]["precision"].note


def test_500_images_have_precision_and_recall() -> None:
    large = Reference(torch.randn(500, 2, generator=torch.Generator().manual_seed(8)), "efflite0")
    scattered = torch.randn(250, 2, 2, generator=torch.Generator().manual_seed(7))
    table = tabulate([Model({}, {}, scattered)], large, ["precision", "recall"])
    assert table.rows[0]["precision"].figure.value > 0.9 < table.rows[0]["recall"].figure.value
    assert table.rows[0]["recall"].figure.low < 1


def test_without_a_reference_its_metrics_are_absent_with_the_reason() -> None:
    table = tabulate([model(1)], None, without_reference="no folder was named")
    assert table.absent == dict.fromkeys(NAMES, "no folder was named")
    assert set(table.rows[0]) == {"clip"}


def test_only_what_is_wanted_is_shown_and_parts_come_with_their_whole() -> None:
    parts = Model({"judge": torch.ones(2, 2), "judge/mouth": torch.ones(2, 2), "clip": torch.ones(2, 2)},
                  dict.fromkeys(("judge", "judge/mouth", "clip"), "x"))  # fmt: skip
    assert set(tabulate([parts], None, ["judge"]).rows[0]) == {"judge", "judge/mouth"}


def test_a_pair_counts_only_where_both_have_a_number() -> None:
    nan = math.nan
    base, tuned = torch.tensor([[1.0], [2.0], [nan]]), torch.tensor([[2.0], [nan], [9.0]])
    change = tabulate([with_clip(base), with_clip(tuned)], None).rows[1]["clip"].change
    assert change is not None and change.value == 1


def test_a_missing_image_is_not_counted() -> None:
    cell = tabulate([with_clip(torch.tensor([[1.0, math.nan], [3.0, 5.0]]))], None).rows[0]["clip"]
    assert (cell.num_images, cell.num_prompts, cell.figure.value) == (3, 2, 2.5)


def test_below_six_prompts_each_number_says_that_it_has_no_interval() -> None:
    def cells(prompts: int) -> Mapping[str, Cell]:
        models = [model(1, prompts=prompts), model(2, shift=0.5, prompts=prompts)]
        return tabulate(models, reference(allow_small=True)).rows[1]

    few = cells(5)
    assert set(few) == {"clip", *NAMES}
    for name, cell in few.items():
        if name != "recall":  # its interval is over reference images
            assert "no interval below 6 prompts" in cell.note
            assert cell.change is not None and not cell.change.is_clear
    many = tabulate([model(1, prompts=6), model(2, shift=0.5, prompts=6)], reference(allow_small=True)).rows[
        1
    ]
    assert not any("no interval" in cell.note for cell in many.values())


def test_a_pair_of_few_prompts_in_common_has_no_interval_and_says_so() -> None:
    base, tuned = torch.rand(10, 1), torch.rand(10, 1)
    base[:3], tuned[-3:] = math.nan, math.nan
    cell = tabulate([with_clip(base), with_clip(tuned)], None).rows[1]["clip"]
    assert not math.isnan(cell.figure.low)
    assert cell.change is not None and math.isnan(cell.change.low)
    assert cell.note == "no interval below 6 prompts"


def test_models_on_other_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="same prompts and seeds"):
        tabulate([model(1), model(1, seeds=2)], None)


def test_a_cell_is_json_without_what_json_has_not() -> None:
    nothing = tabulate([with_clip(torch.full((2, 2), math.nan))], None).rows[0]["clip"]
    assert isinstance(nothing, Cell)
    told = json.dumps(nothing.to_json(), allow_nan=False)
    assert '"value": null' in told


def test_known_metrics_come_first_and_the_judges_slots_last() -> None:
    names = {"judge/mouth", "kid", "judge", "own_reward"}
    assert in_order(names) == ["judge", "kid", "judge/mouth", "own_reward"]
    assert metric_of("own_reward").better == "higher"
    assert metric_of("ssim/base").better == "neither"
