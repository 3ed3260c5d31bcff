from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from flowgrpo.batches import Batch, BatchPlan, Showing, load_image
from flowgrpo.buckets import bucket_of, make_buckets
from flowgrpo.imagefolder import Example, read_folder
from flowgrpo.tags import TagOptions

BUCKETS = make_buckets(64 * 64, 16)
seeds = st.integers(0, 2**32 - 1)
collections = st.lists(
    st.builds(
        Example,
        path=st.integers(0, 10**9).map(lambda number: Path(f"{number}.png")),
        caption=st.just("1girl, solo"),
        width=st.integers(10, 300),
        height=st.integers(10, 300),
        repeats=st.integers(1, 4),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda example: example.path,
)
some = [
    Example(Path(f"{n}.png"), f"tag {n}, a, b, c, d", 40 + 3 * (n % 20), 60, 1 + n % 3) for n in range(40)
]


def shown(batches: list[Batch]) -> Counter[Path]:
    return Counter(showing.example.path for batch in batches for showing in batch.showings)


def epoch_batches(plan: BatchPlan, epoch: int) -> list[Batch]:
    """All batches of an epoch, in their order."""
    first = epoch * plan.batches_per_epoch
    return [plan.batch_at(update) for update in range(first, first + plan.batches_per_epoch)]


@given(examples=collections, size=st.integers(1, 7), seed=seeds, epoch=st.integers(0, 1000))
def test_an_epoch_shows_every_example_as_often_as_it_repeats(
    examples: list[Example], size: int, seed: int, epoch: int
) -> None:
    plan = BatchPlan(examples, BUCKETS, size, seed)
    batches = epoch_batches(plan, epoch)
    assert shown(batches) == Counter({example.path: example.repeats for example in examples})
    assert len(batches) == plan.batches_per_epoch


@given(examples=collections, size=st.integers(1, 7), seed=seeds)
def test_a_batch_has_one_shape_and_only_a_buckets_last_is_smaller(
    examples: list[Example], size: int, seed: int
) -> None:
    batches = epoch_batches(BatchPlan(examples, BUCKETS, size, seed), 0)
    for batch in batches:
        assert 1 <= len(batch.showings) <= size
        for showing in batch.showings:
            assert bucket_of(showing.example.width, showing.example.height, BUCKETS) == batch.bucket
    smaller = Counter(batch.bucket for batch in batches if len(batch.showings) < size)
    assert max(smaller.values(), default=0) <= 1


@settings(max_examples=20)
@given(seed=seeds, update=st.integers(0, 10_000))
def test_the_batch_of_an_update_needs_no_earlier_one(seed: int, update: int) -> None:
    plan = BatchPlan(some, BUCKETS, 4, seed)
    epoch, place = divmod(update, plan.batches_per_epoch)
    batch = BatchPlan(some, BUCKETS, 4, seed).batch_at(update)
    assert batch == epoch_batches(plan, epoch)[place]
    assert batch.captions(TagOptions()) == plan.batch_at(update).captions(TagOptions())


def test_seeds_and_epochs_change_the_order_and_who_shares_a_batch() -> None:
    plans = [BatchPlan(some, BUCKETS, 4, seed) for seed in (0, 1)]
    epochs = [epoch_batches(plan, epoch) for plan in plans for epoch in (0, 1, 2)]
    orders = [[batch.bucket for batch in epoch] for epoch in epochs]
    mates = [{frozenset(one.example.path for one in batch.showings) for batch in epoch} for epoch in epochs]
    for one, other in pairwise(range(len(epochs))):
        assert orders[one] != orders[other]
        assert len(mates[one] & mates[other]) < 0.2 * len(mates[one])


def test_small_batches_do_not_gather_at_the_end_of_an_epoch() -> None:
    plan = BatchPlan(some, BUCKETS, 4, 0)
    last = [len(epoch_batches(plan, epoch)[-1].showings) for epoch in range(40)]
    share = (
        len([batch for batch in epoch_batches(plan, 0) if len(batch.showings) == 4]) / plan.batches_per_epoch
    )
    assert abs(last.count(4) / 40 - share) < 0.3


def test_no_two_showings_share_a_seed() -> None:
    plan = BatchPlan(some, BUCKETS, 4, 5)
    drawn = [one.seed for epoch in range(5) for batch in epoch_batches(plan, epoch) for one in batch.showings]
    assert len(set(drawn)) == len(drawn) == 5 * sum(example.repeats for example in some)


def test_a_repeated_example_has_another_caption_each_time() -> None:
    again = Example(Path("a.png"), ", ".join("abcdefgh"), 64, 64, repeats=20)
    (batch,) = epoch_batches(BatchPlan([again], BUCKETS, 20, 0), 0)
    drawn = batch.captions(TagOptions(caption_dropout=0.0))
    assert len(set(drawn)) == 20
    assert {frozenset(caption.split(", ")) for caption in drawn} == {frozenset("abcdefgh")}


def test_where_a_folder_lies_changes_nothing_of_the_order() -> None:
    moved = [Example(Path("elsewhere") / e.path, e.caption, e.width, e.height, e.repeats) for e in some]
    one, other = (epoch_batches(BatchPlan(examples, BUCKETS, 4, 3), 2) for examples in (some, moved))
    assert [[s.seed for s in batch.showings] for batch in one] == [
        [s.seed for s in batch.showings] for batch in other
    ]


def test_a_plan_of_nothing_is_refused_with_a_sentence() -> None:
    for examples, buckets, size in (([], BUCKETS, 4), (some, [], 4), (some, BUCKETS, 0)):
        with pytest.raises(
            ValueError, match="expected at least one example, one bucket and one image a batch"
        ):
            BatchPlan(examples, buckets, size, 0)
    with pytest.raises(ValueError, match="counted from 0, got -1"):
        BatchPlan(some, BUCKETS, 4, 0).batch_at(-1)


@pytest.fixture
def picture(tmp_path: Path) -> Example:
    """Fine noise, larger than its bucket, in a folder of its own."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 301, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("noise")
    (example,) = read_folder(tmp_path)
    return example


@pytest.mark.parametrize("bucket", [(64, 64), (80, 48), (48, 80), (320, 400)])
def test_a_loaded_image_is_what_torchvision_resizes_and_cuts_out(
    bucket: tuple[int, int], tmp_path: Path
) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (10, 15, 3), dtype=np.uint8)
    smooth = Image.fromarray(colours).resize((301, 200), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.png")
    width, height = bucket
    scale = max(width / 301, height / 200)
    size = [round(200 * scale), round(301 * scale)]
    resized = reference.resize(smooth, size, interpolation=reference.InterpolationMode.LANCZOS)
    expected = torch.from_numpy(np.array(reference.center_crop(resized, [height, width]))).permute(2, 0, 1)
    loaded = load_image(Example(tmp_path / "a.png", "", 301, 200), bucket)
    assert loaded.shape == (3, height, width)
    assert loaded.dtype == torch.float32
    assert 0 <= loaded.min() <= loaded.max() <= 1
    assert (loaded - expected / 255).abs().mean() < 0.05  # it cuts at whole pixels, half of one away
    assert (loaded.mean((1, 2)) - expected.float().mean((1, 2)) / 255).abs().max() < 0.01


def test_a_shrunk_image_is_averaged_and_not_sampled(picture: Example) -> None:
    """Noise shrunk 12 times keeps its mean and loses nearly all of its spread."""
    small = load_image(picture, (16, 16))
    assert small.mean() == pytest.approx(0.5, abs=0.02)
    assert small.std() < 2 * 0.289 / 12


def test_a_batch_loads_its_images_and_mirrors_half_of_them_if_wished(picture: Example) -> None:
    again = Batch((64, 48), tuple(Showing(picture, seed) for seed in range(200)))
    plain = load_image(picture, (64, 48))
    assert torch.equal(again.images(), plain.expand(200, -1, -1, -1))
    flipped = again.images(flip=True)
    is_mirrored = (flipped == plain.flip(-1)).flatten(1).all(1)
    is_plain = (flipped == plain).flatten(1).all(1)
    assert (is_mirrored ^ is_plain).all()
    assert 70 < is_mirrored.sum() < 130
    assert torch.equal(flipped, again.images(flip=True))


def test_mirroring_the_file_mirrors_what_is_loaded(picture: Example, tmp_path: Path) -> None:
    with Image.open(picture.path) as image:
        ImageOps.mirror(image).save(tmp_path / "b.png")
    mirrored = Example(tmp_path / "b.png", "", picture.width, picture.height)
    for bucket in ((64, 64), (80, 48), (48, 80)):
        difference = load_image(mirrored, bucket) - load_image(picture, bucket, flip=True)
        assert difference.abs().max() <= 1.01 / 255


def test_a_batch_tells_what_sdxl_wants_to_know(picture: Example) -> None:
    batch = Batch((48, 80), (Showing(picture, 0),))
    assert [told.time_ids for told in batch.micro_conditioning()] == [(200, 301, 0, 36, 80, 48)]


def test_an_image_that_has_gone_since_is_refused_by_name(picture: Example) -> None:
    picture.path.unlink()
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image: there is no such file"):
        Batch((64, 64), (Showing(picture, 0),)).images()
