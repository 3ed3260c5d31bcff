from __future__ import annotations

import warnings
from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.lpips_ref import LpipsReference, opened, source
from flowgrpo.rewards.perceptual import NO_REFERENCE
from flowgrpo.rewards.registry import load
from flowgrpo.rewards.stack import load_stack
from tests.tiny_rewards import tiny_lpips


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trunk")


@pytest.fixture(scope="module")
def reward(folder: Path) -> LpipsReference:
    return tiny_lpips(folder)


@pytest.fixture
def trunk(reward: LpipsReference, folder: Path) -> Path:
    return folder / "squeezenet.pth"


def test_the_value_is_minus_what_the_package_says_on_the_same_trunk(
    reward: LpipsReference, trunk: Path, renders: tuple[Tensor, list[str]]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
    features = torchvision.models.squeezenet1_1(weights=None)
    features.load_state_dict(torch.load(trunk, weights_only=True))
    for number, layer in enumerate(features.features):
        for part in range(1, 8):
            slice_ = getattr(oracle.net, f"slice{part}")
            if str(number) in slice_._modules:
                slice_._modules[str(number)] = layer
    images, other = renders[0][:3], renders[0][3:6]
    with torch.no_grad():
        wanted = oracle(images.float() / 127.5 - 1, other.float() / 127.5 - 1).flatten()
    values = reward.score(ScoreBatch(images, ["a"] * 3, [0] * 3, references=other)).values
    torch.testing.assert_close(values, -wanted)
    assert (values < -1e-3).all()


def test_an_image_is_at_no_distance_from_itself(
    reward: LpipsReference, renders: tuple[Tensor, list[str]]
) -> None:
    images = renders[0][:2]
    assert reward.score(ScoreBatch(images, ["a"] * 2, [0] * 2, references=images)).values.abs().max() == 0


@pytest.mark.parametrize(
    ("net", "package", "published"),
    [
        ("alex", lpips.pn.alexnet, torchvision.models.alexnet),
        ("vgg", lpips.pn.vgg16, torchvision.models.vgg16),
        ("squeeze", lpips.pn.squeezenet, torchvision.models.squeezenet1_1),
    ],
)
def test_every_layer_of_the_package_finds_its_own_in_torchvisions_file(
    net: str, package: type[torch.nn.Module], published: type[torch.nn.Module]
) -> None:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = package(pretrained=False).state_dict()
        stored = published(weights=None).state_dict()
    assert {key: stored[source(key)].shape for key in wanted} == {key: t.shape for key, t in wanted.items()}


def test_a_trunk_without_a_layer_is_refused(trunk: Path) -> None:
    stored = torch.load(trunk, weights_only=True)
    del stored["features.3.squeeze.weight"]
    with pytest.raises(KeyError, match=r"features\.3"):
        opened("squeeze", stored)


def test_without_a_reference_there_is_no_score(
    reward: LpipsReference, renders: tuple[Tensor, list[str]]
) -> None:
    result = reward.score(ScoreBatch(renders[0][:2], ["a"] * 2, [0] * 2))
    assert result.reasons == (NO_REFERENCE,) * 2


def test_a_trunk_that_is_not_here_is_unavailable_with_its_size(weights: Path) -> None:
    reason = load_stack(["lpips_ref:vgg"], weights).unavailable["lpips_ref:vgg"]
    assert "needs the VGG-16 of LPIPS (553 MB, BSD-3-Clause)" in reason
    with pytest.raises(ValueError, match='the nets alex, vgg, squeeze, and no "resnet"'):
        load("lpips_ref:resnet", Options(weights))
