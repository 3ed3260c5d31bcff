"""A form that was filled too early is filled again, and never over what somebody typed."""

from __future__ import annotations

import gradio as gr

from ui.parts import filling


def test_what_got_lost_is_sent_again_and_nothing_else() -> None:
    wanted = [gr.Dropdown(choices=["a", "b"], value="a"), "portrait", 8, gr.skip()]
    assert filling.again(wanted, [None, "", 8, 1], [None, "portrait", 8, 1]) == [wanted[0], *[gr.skip()] * 3]


def test_a_form_that_is_filled_is_left_alone() -> None:
    chosen = gr.Dropdown(choices=["a"], value=["a"], multiselect=True)
    assert filling.again([chosen, "portrait"], [[], ""], [["a"], "portrait"]) is None


def test_what_somebody_typed_meanwhile_stays() -> None:
    assert filling.again(["portrait", 8], ["", 4], ["mine", 9]) is None


def test_a_dropdown_that_forgets_after_it_was_filled_is_filled_again() -> None:
    def look(asked: filling.Asked | None, *typed: object) -> tuple[filling.Asked, object, object]:
        found = filling.look(asked, lambda query: [query["prompt"]], [""], typed)
        return found[0], found[1], found[2]

    asked, _, sent = look(filling.Asked({"prompt": "buns"}), "")
    assert sent == "buns"
    asked, timer, sent = look(asked, "buns")
    assert (timer, sent) == (gr.skip(), gr.skip())
    asked, _, sent = look(asked, "")
    assert sent == "buns"
    for _ in range(filling.GOOD_LOOKS):
        asked, timer, sent = look(asked, "buns")
        assert timer == gr.skip()
    _, timer, _ = look(asked, "buns")
    assert isinstance(timer, gr.Timer) and not timer.active


def test_a_form_that_never_fills_is_left_alone_in_the_end() -> None:
    asked = filling.Asked({}, looks=filling.LOOKS)
    assert filling.look(asked, lambda _: ["buns"], [""], [""])[2] == gr.skip()


def test_an_empty_dropdown_is_as_it_was_built_however_it_says_so() -> None:
    wanted = [gr.Dropdown(choices=["a"], value="a")]
    empties: list[object] = [None, "", []]
    for empty in empties:
        assert filling.again(wanted, [None], [empty]) == wanted
