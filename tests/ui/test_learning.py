"""A run from ratings freezes the votes of now, and is refused where there is nothing to learn."""

from __future__ import annotations

import pytest

from flowgrpo.config import RunConfig, SamplingConfig
from flowgrpo.presets import RATED
from storage import checkpoints, ratings, runs, snapshots
from storage.engine import Database
from storage.models import Checkpoint
from storage.prompts import save_prompt_set
from storage.ratings import RatingInput
from tests.ui.conftest import MakeGroup
from ui import forms, learning, tuning
from ui.forms import Refused, RunForm
from ui.services import Services


@pytest.fixture
def rated(db: Database, make_group: MakeGroup) -> None:
    for number in range(3):
        view = make_group((0.1, 0.9), prompt=f"prompt {number}")
        best = view.images[1].image.id
        ratings.rate(db, RatingInput(f"vote-key-{number}", "local", view.group.id, "best", best))


@pytest.mark.parametrize("algorithm", list(RATED))
def test_a_run_from_ratings_names_the_votes_it_learns_from(
    services: Services, base: Checkpoint, rated: None, algorithm: str
) -> None:
    run = learning.start(services, base.id, algorithm, 7, 3, "").run
    config = RunConfig.model_validate(run.config)
    assert config.ratings is not None and config.reward_weights == {}
    assert (config.algorithm.name, config.num_updates, config.seed) == (algorithm, 7, 3)
    assert len(snapshots.votes_of(services.db, config.ratings.snapshot)) == 3
    assert config.prompts == ("prompt 0", "prompt 1", "prompt 2")
    assert run.name == "3 rated groups, 7 updates"


def test_a_run_from_images_drawn_with_guidance_is_held_to_the_base_without_any(
    services: Services, base: Checkpoint, make_group: MakeGroup
) -> None:
    """The tuned model will be sampled with guidance, and what was learned of it would count twice."""
    held = {}
    for scale in (1.0, 3.0):
        config = SamplingConfig(num_steps=8, guidance_scale=scale).model_dump()
        view = make_group((0.1, 0.9), prompt=f"at {scale}", config=config)
        best = view.images[1].image.id
        ratings.rate(services.db, RatingInput(f"key at {scale}", "local", view.group.id, "best", best))
        run = learning.start(services, base.id, "nft", 7, 0, "").run
        held[scale] = RunConfig.model_validate(run.config).update
    assert (held[1.0].reference_guidance, held[3.0].reference_guidance) == (2.0, None)
    assert held[1.0].kl_weight == held[3.0].kl_weight > 0.1


def test_what_is_learned_is_looked_at_as_it_was_rated_and_at_prompts_of_the_same_set(
    services: Services, base: Checkpoint, make_group: MakeGroup
) -> None:
    kept = save_prompt_set(services.db, "mine", ["a cat", "a dog"], ["a cow"])
    config = SamplingConfig(num_steps=12, guidance_scale=4.0).model_dump()
    view = make_group((0.1, 0.9), prompt="a cat", config=config)
    best = view.images[1].image.id
    ratings.rate(services.db, RatingInput("a key", "local", view.group.id, "best", best))
    run = learning.start(services, base.id, "nft", 7, 0, "").run
    rollout = RunConfig.model_validate(run.config).rollout
    assert (rollout.num_steps, rollout.guidance_scale, run.prompt_set_id) == (12, 4.0, kept.id)


def test_later_votes_do_not_change_what_it_learns_from(
    services: Services, base: Checkpoint, rated: None, make_group: MakeGroup
) -> None:
    run = learning.start(services, base.id, "nft", 7, 0, "mine").run
    view = make_group((0.1, 0.9), prompt="another")
    ratings.rate(
        services.db, RatingInput("later-key", "local", view.group.id, "best", view.images[0].image.id)
    )
    again = learning.start(services, base.id, "nft", 7, 0, "mine").run
    frozen = [RunConfig.model_validate(one.config).ratings for one in (run, again)]
    sizes = [len(snapshots.votes_of(services.db, one.snapshot)) for one in frozen if one]
    assert sizes == [3, 4]


def test_only_images_of_its_own_base_model_are_learned_from_and_the_rest_is_counted(
    services: Services, base: Checkpoint, rated: None, make_group: MakeGroup
) -> None:
    other = checkpoints.register_base(
        services.db, name="another", source="elsewhere", family="StableDiffusionXLPipeline"
    )
    with pytest.raises(Refused, match="All 3 rated groups were drawn by other base models"):
        learning.start(services, other.id, "nft", 7, 0, "")
    view = make_group((0.1, 0.9), prompt="of the other", checkpoint=other)
    best = view.images[0].image.id
    ratings.rate(services.db, RatingInput("other-key", "local", view.group.id, "best", best))
    started = learning.start(services, other.id, "nft", 7, 0, "")
    config = RunConfig.model_validate(started.run.config)
    assert (config.prompts, started.left_out) == (("of the other",), 3)
    assert config.ratings is not None
    votes = snapshots.votes_of(services.db, config.ratings.snapshot)
    assert [vote.group_id for vote in votes] == [view.group.id]
    assert learning.start(services, base.id, "nft", 7, 0, "").left_out == 1


def test_without_votes_and_with_an_algorithm_that_samples_it_is_refused(
    services: Services, base: Checkpoint, make_group: MakeGroup
) -> None:
    with pytest.raises(Refused, match="Nobody has rated anything yet"):
        learning.start(services, base.id, "nft", 7, 0, "")
    with pytest.raises(Refused, match="nft, awm, rwr, dpo"):
        learning.start(services, base.id, "flow_grpo", 7, 0, "")
    assert runs.list_runs(services.db) == []


def test_your_taste_keeps_its_own_weights() -> None:
    form = tuning.preset_form("your taste")
    assert form.weights == {"human": 2.0, "verifier": 0.6}
    assert "human" in tuning.REWARDS


def test_a_run_asks_people_only_when_it_is_told_for_how_long(services: Services, base: Checkpoint) -> None:
    form = {**vars(tuning.preset_form("smoke")), "prompts": "red hair"}
    alone = forms.check_run(RunForm(**form), width=64, height=64)
    asking = forms.check_run(RunForm(**{**form, "people_minutes": 15}), width=64, height=64)
    assert alone.people is None
    assert asking.people is not None and asking.people.timeout_minutes == 15
    with pytest.raises(Refused, match="minutes to wait for people"):
        forms.check_run(RunForm(**{**form, "people_minutes": -1}), width=64, height=64)
