"""One click may ask for many groups: it says how many before, and all of them have the same seeds."""

from __future__ import annotations

import pytest

from storage import checkpoints
from storage.engine import Database
from storage.models import Checkpoint
from storage.prompts import save_prompt_set
from tests.ui.conftest import MakeGroup
from ui import batches, canvas, reuse
from ui.canvas import Seen
from ui.forms import GroupForm, Refused
from ui.services import Services

FORM = GroupForm(prompt="portrait", group_size=4, num_steps=8, guidance_scale=1)


@pytest.fixture
def tuned(db: Database, base: Checkpoint) -> Checkpoint:
    """A second checkpoint of the same base."""
    with db.write() as session:
        made = Checkpoint(base_model_id=base.base_model_id, parent_id=base.id, name="tuned", update=4)
        made.path = "runs/x"
        session.add(made)
    return made


def test_checkpoints_and_prompts_are_crossed_at_the_same_seeds(
    db: Database, services: Services, base: Checkpoint, tuned: Checkpoint
) -> None:
    wanted = batches.plan(services, [base.id, tuned.id], FORM, ["smile", "buns"])
    made = batches.queue(db, wanted, "local")
    assert [(one.prompt, one.checkpoint_id) for one in made] == [
        ("smile", base.id), ("smile", tuned.id), ("buns", base.id), ("buns", tuned.id)
    ]  # fmt: skip
    assert len({tuple(one.seeds) for one in made}) == 1 and len(made[0].seeds) == 4


def test_a_click_that_asks_for_several_groups_says_how_many_images_and_how_long(
    services: Services, base: Checkpoint, tuned: Checkpoint, make_group: MakeGroup
) -> None:
    wanted = batches.plan(services, [base.id, tuned.id], FORM, ())
    assert batches.plan_words(services, wanted).startswith("2 groups, 8 images. How long")
    make_group()
    assert batches.plan_words(services, wanted).startswith("2 groups, 8 images, about ")
    assert batches.plan_words(services, wanted[:1]) == ""


def test_too_much_at_once_and_no_checkpoint_are_refused(services: Services, base: Checkpoint) -> None:
    with pytest.raises(Refused, match="That is 2,004 images; at most 2,000"):
        batches.plan(services, [base.id], FORM, [f"prompt {n}" for n in range(501)])
    nothing: tuple[object, ...] = ([], None, "")
    for chosen in nothing:
        with pytest.raises(Refused, match="No checkpoint is chosen"):
            batches.plan(services, chosen, FORM, ())


def test_chosen_prompts_of_a_set_are_taken_and_those_to_train_on_where_none_is_chosen(db: Database) -> None:
    made = save_prompt_set(db, "mine", ["a", "b"], ["c"])
    assert batches.chosen_texts(db, made.id, []) == ["a", "b"]
    assert batches.chosen_texts(db, made.id, ["c", "a", "unknown"]) == ["a", "c"]
    assert batches.chosen_texts(db, "", ["a"]) == []
    with pytest.raises(Refused, match="prompt set is not known"):
        batches.texts_of(db, "nothing")


def test_other_checkpoints_come_with_the_seed_and_settings_of_the_image(
    services: Services, make_group: MakeGroup, base: Checkpoint, tuned: Checkpoint
) -> None:
    view = make_group(seeds=[11, 12])
    image = view.images[1].image.id
    values = reuse.values(services, Seen((view.group.id,)), "others", image)
    assert (values["checkpoint"], values["seeds"], values["group_size"]) == ([base.id, tuned.id], "12", 1)
    with pytest.raises(Refused, match="not shown any more"):
        reuse.values(services, Seen(), "seeds", image)


def test_without_another_checkpoint_it_says_where_they_come_from(
    services: Services, make_group: MakeGroup
) -> None:
    view = make_group()
    with pytest.raises(Refused, match="a run on the Train page makes them"):
        reuse.values(services, Seen((view.group.id,)), "others", view.group.id)


def test_an_address_names_groups_and_an_image_and_falls_back_to_the_newest(
    services: Services, make_group: MakeGroup
) -> None:
    first, second = make_group(), make_group()
    image = first.images[0].image.id
    both = f"{second.group.id},{first.group.id}"
    seen = canvas.start(services, {"group": both, "image": image})
    assert seen == Seen((second.group.id, first.group.id), image)
    assert canvas.start(services, {"group": "gone", "image": "gone"}) == Seen((second.group.id,))


def test_several_groups_stand_under_each_other_with_the_same_seed_in_a_column(
    services: Services, make_group: MakeGroup
) -> None:
    views = [make_group(prompt=prompt, seeds=[3, 9]) for prompt in ("smile", "smile", "buns")]
    html = canvas.canvas_html(services, views, Seen(tuple(view.group.id for view in views)))
    assert html.count("<section>") == 2 and html.count('class="aligned"') == 3
    assert html.index("seed 3") < html.index("seed 9")


def test_an_empty_studio_offers_the_demo_model_or_says_that_there_is_none(
    db: Database, services: Services
) -> None:
    assert "No model yet" in canvas.canvas_html(services, [], Seen())
    checkpoints.register_base(db, name="mine", source="nowhere", family="sdxl")
    assert 'data-act="demo"' not in canvas.canvas_html(services, [], Seen())
    checkpoints.register_base(db, name="starter", source="nowhere", family="sdxl")
    assert 'data-act="demo"' in canvas.canvas_html(services, [], Seen())
