from __future__ import annotations

from itertools import count

import pytest
import torch

from flowgrpo.rewards.base import ScoreBatch, scored, unscored

IMAGES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)


def test_a_batch_needs_a_prompt_and_a_group_for_every_image() -> None:
    with pytest.raises(ValueError, match="got 2 images, 1 prompts and 2 group numbers"):
        ScoreBatch(IMAGES, ["portrait"], [0, 0])


def test_a_batch_refuses_images_that_are_not_what_people_see() -> None:
    with pytest.raises(Exception, match=r"uint8|UInt8"):
        ScoreBatch(IMAGES.float(), ["a", "b"], [0, 0])


def test_a_shared_forward_runs_once_for_a_batch() -> None:
    batch = ScoreBatch(IMAGES, ["a", "b"], [0, 0])
    calls = count(1)
    results = [batch.shared("key", lambda: next(calls)) for _ in range(3)]
    assert results == [1, 1, 1]
    assert ScoreBatch(IMAGES, ["a", "b"], [0, 0]).shared("key", lambda: 7) == 7


def test_a_column_without_values_is_nan_with_the_reason_on_every_image() -> None:
    column = unscored(3, "no weights")
    assert column.values.isnan().all()
    assert column.reasons == ("no weights",) * 3
    assert scored(torch.ones(3)).reasons == (None, None, None)
