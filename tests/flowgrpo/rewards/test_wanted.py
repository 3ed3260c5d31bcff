"""Images that are wanted for a prompt: the nearest counts, and where there is none there is no score."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowgrpo.rewards.base import Abstained, ScoreBatch, ScoreResult
from flowgrpo.rewards.perceptual import DiversityReward, PerceptualReference
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rewards.wanted import NOTHING_WANTED, NearestWanted, bare
from flowgrpo.starter import features
from tests.given import Given


def batch_of(images: Tensor, *prompts: str) -> ScoreBatch:
    names = list(dict.fromkeys(prompts))
    return ScoreBatch(images, prompts, [names.index(prompt) for prompt in prompts])


def near(batch: ScoreBatch) -> ScoreResult:
    """Minus the mean distance of pixels, and how bright the reference is beside it."""
    assert batch.references is not None
    values = -(batch.images.float() - batch.references.float()).abs().mean((1, 2, 3)) / 255
    light = batch.references.float().mean((1, 2, 3)) / 255
    return ScoreResult(values, (None,) * len(batch), {"light": light}, "images are small")


def given() -> Given:
    return Given(near, "near", "reference")


def flat(*levels: int) -> Tensor:
    """Grey images of these levels."""
    return torch.stack([torch.full((3, 8, 8), level, dtype=torch.uint8) for level in levels])


def test_the_wanted_image_itself_has_the_best_score_there_is(renders: tuple[Tensor, list[str]]) -> None:
    images, reward = renders[0][:4], PerceptualReference()
    values = NearestWanted(reward, {"a": images[2:3]}).score(batch_of(images, *"aaaa")).values
    assert values[2] == 0
    assert (values[[0, 1, 3]] < -0.01).all()


def test_of_several_wanted_images_the_nearest_counts_in_whatever_order(
    renders: tuple[Tensor, list[str]],
) -> None:
    images, wanted, reward = renders[0][:4], renders[0][4:7], PerceptualReference()
    batch = batch_of(images, *"aaab")
    alone = [NearestWanted(reward, {"a": one[None], "b": one[None]}).score(batch).values for one in wanted]
    for order in ([0, 1, 2], [2, 0, 1]):
        found = NearestWanted(reward, {"a": wanted[order], "b": wanted[1:2]}).score(batch)
        assert torch.allclose(found.values[:3], torch.stack(alone)[:, :3].amax(0), atol=1e-6)
        assert torch.allclose(found.values[3], alone[1][3], atol=1e-6)


def test_where_nothing_is_wanted_there_is_no_score_and_it_is_no_failure() -> None:
    reward = NearestWanted(given(), {"a": flat(100)})
    found = reward.score(batch_of(flat(0, 100, 255), "b", "a", "b"))
    assert found.values[1] == 0
    assert found.values[[0, 2]].isnan().all()
    assert found.reasons == (NOTHING_WANTED, None, NOTHING_WANTED)
    assert isinstance(found.reasons[0], Abstained)
    assert found.details["light"].isnan().tolist() == [True, False, True]
    none = reward.score(batch_of(flat(0, 100), "b", "c"))
    assert none.values.isnan().all()
    assert none.reasons == (NOTHING_WANTED,) * 2


def test_what_is_said_beside_a_value_is_said_of_the_nearest_and_once() -> None:
    found = NearestWanted(given(), {"a": flat(0, 255)}).score(batch_of(flat(10, 250), "a", "a"))
    assert found.details["light"].tolist() == [0, 1]
    assert found.warning == "images are small"


@pytest.mark.parametrize("order", [(0, 255), (255, 0)])
def test_a_wanted_image_that_could_not_be_compared_with_may_have_been_the_nearest(
    order: tuple[int, int],
) -> None:
    def blind_to_white(batch: ScoreBatch) -> ScoreResult:
        assert batch.references is not None
        if batch.references.max() == 255:
            raise OSError("no light")
        return near(batch)

    reward = NearestWanted(Given(blind_to_white, "near", "reference"), {"a": flat(*order), "b": flat(0)})
    alone, both = (reward.score(batch_of(flat(9), prompt)) for prompt in "ba")
    assert alone.values.isfinite().all()
    assert both.values.isnan().all()
    assert both.reasons == ("the near reward failed: OSError: no light",)


def test_the_images_go_through_the_network_once_however_many_are_wanted(
    renders: tuple[Tensor, list[str]],
) -> None:
    images, forwards = renders[0], list[int]()
    hook = features.load_backbone("cpu").register_forward_hook(lambda *_: forwards.append(1))
    held = NearestWanted(PerceptualReference(), {"a": images[4:6]})
    results = RewardStack({"perceptual_ref": held, "diversity": DiversityReward()}).score(
        batch_of(images[:4], *"aaaa")
    )
    hook.remove()
    assert len(forwards) == 3  # the images, and each time what they are held against
    assert all(result.values.isfinite().all() for result in results.values())


def test_it_is_a_pointwise_reward_whose_version_names_prompts_and_pixels() -> None:
    specs = [
        NearestWanted(given(), wanted).spec
        for wanted in ({"a": flat(1)}, {"a": flat(2)}, {"b": flat(1)}, {"a": flat(1, 2)})
    ]
    assert {(spec.kind, spec.needs) for spec in specs} == {("pointwise", ("prompt",))}
    assert len({spec.version for spec in specs}) == 4
    assert NearestWanted(given(), {"a": flat(1)}).spec == specs[0]


def test_the_reward_behind_it_can_be_reached_to_end_its_process() -> None:
    inner = given()
    assert bare(NearestWanted(inner, {"a": flat(1)})) is inner
    assert bare(inner) is inner
