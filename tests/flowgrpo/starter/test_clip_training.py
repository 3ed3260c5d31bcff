from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from flowgrpo.starter import clip_training
from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.portraits import caption, sample_attributes

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:open_clip", "ignore::DeprecationWarning")


def test_open_clip_loads_the_folder_by_its_local_dir_schema(tmp_path: Path) -> None:
    folder = clip_training.new_folder(tmp_path / "clip")
    torch.manual_seed(0)
    model, _ = clip_training.build(folder)
    clip_training.save(model, folder)
    asked = [sample_attributes(random.Random(i)) for i in range(6)]
    right = clip_training.swap_accuracy(folder, torch.rand(6, 3, 64, 64) * 2 - 1, asked)
    assert list(right) == [slot.name for slot in v.SLOTS]
    assert all(set(x.tolist()) <= {0.0, 1.0} for x in right.values())


def test_the_text_tower_reads_to_the_end_of_the_prompt(tmp_path: Path) -> None:
    """open_clip's default pool, the highest id, stops in mid-sentence (rewards.md 1.1)."""
    torch.manual_seed(0)
    model, tokenize = clip_training.build(clip_training.new_folder(tmp_path / "clip"))
    one, other = model.encode_text(
        tokenize(["portrait, red hair, blue background", "portrait, red hair, pink background"])
    )
    assert not torch.allclose(one, other)


def test_a_swap_changes_one_slot_and_nothing_else() -> None:
    rng = random.Random(0)
    attributes = sample_attributes(rng)
    for slot in v.SLOTS:
        other = clip_training.swapped(attributes, slot, rng)
        assert {name for name in attributes if attributes[name] != other[name]} == {slot.name}
        assert caption(other) != caption(attributes)
