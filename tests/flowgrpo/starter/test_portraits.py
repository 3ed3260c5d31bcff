from __future__ import annotations

import random

import numpy as np

from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.dataset import labels_of, plan
from flowgrpo.starter.portraits import caption, is_held_out, render, sample_attributes

ATTRIBUTES = {
    "hair style": "long hair", "hair colour": "red hair", "skin": "pale skin", "eyewear": "glasses",
    "mouth": "smile", "detail": "no detail", "background": "blue background",
}  # fmt: skip


def test_a_portrait_follows_from_its_attributes_and_seed_alone() -> None:
    assert np.array_equal(render(ATTRIBUTES, 5), render(ATTRIBUTES, 5))
    assert not np.array_equal(render(ATTRIBUTES, 5), render(ATTRIBUTES, 6))


def test_the_corners_show_the_asked_background() -> None:
    for tag, colour in v.BACKGROUNDS.items():
        corner = render({**ATTRIBUTES, "hair style": "short hair", "background": tag}, 1)[0, 0]
        assert "#" + bytes(corner).hex() == colour


def test_a_caption_names_every_slot_but_the_absent_ones() -> None:
    text = caption(ATTRIBUTES)
    assert text == "portrait, long hair, red hair, pale skin, glasses, smile, blue background"


def test_dropping_tags_never_drops_an_optional_slot_that_is_there() -> None:
    texts = [caption(ATTRIBUTES, random.Random(seed), drop=1.0) for seed in range(5)]
    assert set(texts) == {"portrait, glasses"}


def test_training_never_sees_a_held_out_combination_and_the_held_out_split_nothing_else() -> None:
    assert not any(is_held_out(a) for a in plan("train", 300))
    assert all(is_held_out(a) for a in plan("held_out", 50))


def test_about_a_tenth_of_the_combinations_is_held_out() -> None:
    rng = random.Random(0)
    share = np.mean([is_held_out(sample_attributes(rng)) for _ in range(3000)])
    assert 0.05 < share < 0.16


def test_labels_index_the_slots_and_mark_free_slots() -> None:
    labels = labels_of([ATTRIBUTES, {"mouth": "serious"}])
    assert labels[0].tolist() == [slot.labels.index(ATTRIBUTES[slot.name]) for slot in v.SLOTS]
    assert labels[1].tolist() == [-1, -1, -1, -1, 2, -1, -1]
