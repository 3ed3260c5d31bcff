from __future__ import annotations

import torch

from flowgrpo.starter import report
from flowgrpo.starter.portraits import is_held_out


def test_the_interval_holds_the_share_and_narrows_with_n() -> None:
    few, many = report.wilson(19.0, 20), report.wilson(1900.0, 2000)
    assert few["low"] < 0.95 < few["high"]
    assert many["high"] - many["low"] < few["high"] - few["low"]
    assert report.wilson(20.0, 20)["high"] == 1.0
    assert report.wilson(20.0, 20)["low"] < 0.9


def test_free_slots_do_not_count() -> None:
    figures = report.per_slot(
        {"mouth": torch.tensor([1.0, torch.nan, 0.0]), "skin": torch.tensor([1.0, 1.0, 1.0])}
    )
    assert figures["mouth"]["n"] == 2
    assert figures["all"] == report.wilson(4.0, 5)


def test_prompts_keep_to_their_side_of_the_held_out_combinations() -> None:
    assert not any(is_held_out(a) for a in report.prompts(40, seed=1))
    assert all(is_held_out(a) for a in report.prompts(10, seed=1, held_out=True))
    assert report.prompts(10, seed=1) == report.prompts(10, seed=1) != report.prompts(10, seed=2)
