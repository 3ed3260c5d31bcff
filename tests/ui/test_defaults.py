"""What a first visit begins with."""

from __future__ import annotations

from storage.engine import Database
from storage.prompts import list_prompt_sets, prompts_of, save_prompt_set
from ui.defaults import EXACT_SET, OPEN_SET, keep_first_sets, starter_prompts, taste_prompts


def test_held_out_prompts_are_never_training_prompts() -> None:
    for train, held_out in (starter_prompts(), taste_prompts()):
        assert train
        assert held_out
        assert not set(train) & set(held_out)


def test_a_new_studio_gets_the_starters_prompt_sets_once(db: Database) -> None:
    keep_first_sets(db)
    keep_first_sets(db)
    sets = {one.name: one for one in list_prompt_sets(db)}
    assert set(sets) == {OPEN_SET, EXACT_SET}
    assert [one.text for one in prompts_of(db, sets[OPEN_SET].id, "held_out")] == list(taste_prompts()[1])
    assert {one.version for one in sets.values()} == {1}


def test_a_studio_with_prompt_sets_of_its_own_keeps_only_those(db: Database) -> None:
    save_prompt_set(db, "mine", ["a castle"], [])
    keep_first_sets(db)
    assert [one.name for one in list_prompt_sets(db)] == ["mine"]
