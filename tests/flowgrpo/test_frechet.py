"""The Frechet distance against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowgrpo.frechet import Frechet, frechet_distance


def test_a_set_has_no_distance_to_itself() -> None:
    features = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_a_shift_costs_its_square_and_a_scale_its_difference_of_stds() -> None:
    reference = torch.randn(400, 3, generator=torch.Generator().manual_seed(1)).double()
    reference = (reference - reference.mean(0)) / reference.std(0)
    shift = torch.tensor([0.5, 0.0, -1.0]).double()
    assert frechet_distance(reference + shift, reference) == pytest.approx(1.25, rel=1e-9)
    # Of two Gaussians with proportional covariances c^2 C and C: (c - 1)^2 tr C.
    assert frechet_distance(2 * reference, reference) == pytest.approx(3.0, rel=1e-9)


def test_units_of_a_feature_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(2)
    ours, theirs = (torch.randn(n, 4, generator=generator).double() for n in (100, 150))
    units = torch.tensor([1.0, 1e3, 1e-3, 5.0])
    assert frechet_distance(ours * units, theirs * units) == pytest.approx(
        frechet_distance(ours, theirs), rel=1e-6
    )


def test_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two images"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))


def test_the_draws_of_prompts_are_those_of_their_images() -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(6, 2, 3, generator=generator).double()
    reference = torch.randn(50, 3, generator=generator).double()
    counts = np.array([[2, 1, 1, 1, 1, 0]])
    (found,) = Frechet(reference).distances(features, counts)
    drawn = torch.cat([features[[0]], features[:-1]]).flatten(0, 1)
    assert found == pytest.approx(frechet_distance(drawn, reference), rel=1e-9)


def test_a_few_components_of_the_reference_keep_a_shift_along_them() -> None:
    generator = torch.Generator().manual_seed(4)
    shared = torch.randn(300, 1, generator=generator).double()
    reference = shared + 0.05 * torch.randn(300, 8, generator=generator).double()
    once = np.ones((1, 300), dtype=np.int64)
    near, far = (
        Frechet(reference, 1).distances((reference + shift)[:, None], once)[0] for shift in (0.0, 1.0)
    )
    assert near == pytest.approx(0, abs=1e-9)
    assert far == pytest.approx(8 / float(reference.var(0).mean()), rel=0.05)
