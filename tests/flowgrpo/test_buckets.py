from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.buckets import assign, bucket_of, crop_box, make_buckets, micro_conditioning

SDXL = make_buckets(1024 * 1024, 64, 4.0)
sides = st.integers(1, 20_000)
grids = st.tuples(st.integers(1, 64), st.integers(1, 40), st.floats(1, 8)).map(
    lambda drawn: (drawn[0] ** 2 * drawn[1] ** 2 + drawn[1], drawn[0], drawn[2])
)
"""(area, step, max_ratio) that some bucket fits."""


def test_the_resolutions_that_sdxl_is_known_for_are_buckets() -> None:
    landscape = {(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640), (2048, 512)}
    assert landscape | {(height, width) for width, height in landscape} <= set(SDXL)


@given(grid=grids)
def test_buckets_keep_to_step_area_and_ratio(grid: tuple[int, int, float]) -> None:
    area, step, max_ratio = grid
    buckets = make_buckets(area, step, max_ratio)
    assert (math.isqrt(area) // step * step,) * 2 in buckets
    assert buckets == sorted(set(buckets))
    assert {(height, width) for width, height in buckets} == set(buckets)
    for width, height in buckets:
        assert width % step == height % step == 0
        assert 0 < width * height <= area
        assert max(width, height) <= max_ratio * min(width, height)


@given(grid=grids)
def test_no_bucket_could_grow_both_ways(grid: tuple[int, int, float]) -> None:
    area, step, max_ratio = grid
    assert all((w + step) * (h + step) > area for w, h in make_buckets(area, step, max_ratio))


def test_buckets_that_cannot_be_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="no bucket of sides in multiples of 64 has at most 4095 pixels"):
        make_buckets(64 * 64 - 1, 64)
    with pytest.raises(ValueError, match="a step of at least 1"):
        make_buckets(100, 0)
    for wrong in (0.5, math.nan):
        with pytest.raises(ValueError, match="max_ratio"):
            make_buckets(64 * 64, 8, wrong)


@given(width=sides, height=sides)
def test_no_bucket_is_nearer_than_the_chosen_one(width: int, height: int) -> None:
    def far(bucket: tuple[int, int]) -> float:
        return abs(math.log(bucket[0] * height / (bucket[1] * width)))

    assert far(bucket_of(width, height, SDXL)) <= min(map(far, SDXL)) + 1e-12


@given(scale=st.integers(1, 20))
def test_an_image_of_a_buckets_shape_goes_there_whatever_its_size(scale: int) -> None:
    for width, height in SDXL:
        assert bucket_of(width * scale, height * scale, SDXL) == (width, height)


def test_wider_images_never_go_to_narrower_buckets() -> None:
    ratios = [width / height for width, height in (bucket_of(n, 1000, SDXL) for n in range(100, 9000, 7))]
    assert all(one <= other for one, other in pairwise(ratios))
    assert bucket_of(100_000, 1, SDXL) == (2048, 512)


def test_of_equally_near_buckets_the_largest_counts() -> None:
    assert bucket_of(10, 10, [(8, 8), (16, 16), (24, 8)]) == (16, 16)
    assert bucket_of(10, 10, [(8, 16), (16, 8)]) == (8, 16)


@given(sizes=st.lists(st.tuples(sides, sides), max_size=30))
def test_every_image_is_assigned_once(sizes: list[tuple[int, int]]) -> None:
    members = assign(sizes, SDXL)
    assert sorted(position for positions in members.values() for position in positions) == list(
        range(len(sizes))
    )
    assert list(members) == [bucket for bucket in SDXL if bucket in members]
    for bucket, positions in members.items():
        assert positions == sorted(positions) != []
        assert all(bucket_of(*sizes[position], SDXL) == bucket for position in positions)


@given(width=sides, height=sides, bucket=st.sampled_from(SDXL))
def test_the_cut_is_the_largest_centred_part_of_the_buckets_shape(
    width: int, height: int, bucket: tuple[int, int]
) -> None:
    left, top, right, bottom = crop_box(width, height, bucket)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert left + right == pytest.approx(width)
    assert top + bottom == pytest.approx(height)
    assert (right - left) / (bottom - top) == pytest.approx(bucket[0] / bucket[1], rel=1e-6)
    assert left == 0 or top == 0


@given(width=sides, height=sides, bucket=st.sampled_from(SDXL))
def test_what_sdxl_is_told_is_what_a_resize_and_a_cut_would_do(
    width: int, height: int, bucket: tuple[int, int]
) -> None:
    told = micro_conditioning(width, height, bucket)
    scale = max(bucket[0] / width, bucket[1] / height)  # resize until the bucket is covered, then cut
    left, top = (width * scale - bucket[0]) / 2, (height * scale - bucket[1]) / 2
    assert list(told.crop_top_left) == pytest.approx([top, left], abs=0.51)
    assert told.time_ids == (height, width, *told.crop_top_left, bucket[1], bucket[0])


def test_an_image_that_fits_is_told_to_be_whole() -> None:
    assert micro_conditioning(2048, 2048, (1024, 1024)).time_ids == (2048, 2048, 0, 0, 1024, 1024)
    assert micro_conditioning(2048, 1024, (1024, 1024)).time_ids == (1024, 2048, 0, 512, 1024, 1024)
