"""A task's methods are those that it names, and sample as it asks."""

from __future__ import annotations

import pytest

from benchmarks.learning.methods import IMAGES_PER_UPDATE, methods
from benchmarks.learning.tasks import FAST, FINE, GOAL, TASKS, Task
from flowgrpo.starter.dataset import plan
from flowgrpo.starter.portraits import caption, is_held_out


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_entrant_of_a_task_is_a_method_and_makes_as_many_images_as_the_others(task: Task) -> None:
    entrants = methods(task)
    assert set(entrants) == set(task.entrants)
    for method in entrants.values():
        rollout = method.config.rollout
        assert method.config.algorithm.name == "sft" or (
            rollout.group_size * rollout.groups_per_update == IMAGES_PER_UPDATE
        )


def test_methods_of_the_fine_task_sample_in_its_steps_and_learn_what_they_learn_elsewhere() -> None:
    elsewhere = methods(FAST)
    for name, method in methods(FINE).items():
        assert method.config.rollout.num_steps == FINE.sampler[0]
        if name in elsewhere:
            assert method.config.algorithm == elsewhere[name].config.algorithm
            assert method.config.update == elsewhere[name].config.update


def test_only_the_published_recipe_is_guided_in_training_where_the_task_is_not() -> None:
    for task in TASKS.values():
        guided = {name: method.config.rollout.guidance_scale for name, method in methods(task).items()}
        assert {name for name, scale in guided.items() if scale != task.sampler[1]} == {"published"}


def test_no_task_costs_more_evaluations_than_a_quarter_of_what_it_is_to_reach() -> None:
    goal_steps, _ = GOAL
    for task in TASKS.values():
        steps, guidance = task.sampler
        assert steps * (1 if guidance == 1 else 2) <= goal_steps * 2 / 4


def test_training_prompts_are_the_same_everywhere_and_of_no_held_out_combination() -> None:
    trained = {method.config.prompts for task in TASKS.values() for method in methods(task).values()}
    assert len(trained) == 1
    held_out = {caption(attributes) for attributes in plan("held_out", 1024)}
    assert all(is_held_out(attributes) for attributes in plan("held_out", 16))
    assert not held_out & set(*trained)


def test_no_two_methods_of_a_task_have_the_same_title() -> None:
    for task in TASKS.values():
        titles = [method.title for method in methods(task).values()]
        assert len(set(titles)) == len(titles)


def test_a_quick_race_leaves_out_variants_of_a_method_and_keeps_every_method() -> None:
    for task in TASKS.values():
        assert set(task.variants) <= set(task.entrants)
        assert {"sft", "ddpo", "published", "nft", "awm"} <= set(task.entrants) - set(task.variants)


def test_races_of_two_tasks_lie_apart() -> None:
    assert len({task.folder for task in TASKS.values()}) == len(TASKS)
