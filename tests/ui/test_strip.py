"""The group strip compares each image with its group's mean, and shows people's words as words."""

from __future__ import annotations

import pytest

from storage import groups
from storage.engine import Database
from storage.models import Checkpoint
from tests.ui.conftest import MakeGroup
from ui.components import span, strip, words
from ui.services import Services

NASTY = """${alert(1)} `x` {{7*7}} <img src=x onerror=alert(1)> </script> "quoted" & 'single'"""


def test_bars_start_at_the_mean_and_are_in_standard_deviations(make_group: MakeGroup) -> None:
    view = make_group([0.0, 1.0])
    low, high = (strip.bars_of(view, image)[0] for image in view.images)
    assert (low.text, high.text) == ("−1.0", "+1.0")
    assert low.left + low.width == high.left == 50
    assert low.width == high.width == pytest.approx(20)


def test_equal_scores_show_no_difference(make_group: MakeGroup) -> None:
    view = make_group([0.5, 0.5, 0.5])
    assert {bar.text for image in view.images for bar in strip.bars_of(view, image)} == {"0.0"}


def test_differences_that_are_noise_are_drawn_as_none(make_group: MakeGroup) -> None:
    view = make_group([0.50000, 0.50001, 0.50002])
    bars = [strip.bars_of(view, image)[0] for image in view.images]
    assert {bar.text for bar in bars} == {"0.0"}
    assert max(bar.width for bar in bars) < 0.1


def test_a_small_difference_gets_a_small_bar(make_group: MakeGroup) -> None:
    view = make_group([0.500, 0.506])
    assert [strip.bars_of(view, image)[0].text for image in view.images] == ["−0.3", "+0.3"]


def test_a_far_image_fills_its_half_and_no_more(make_group: MakeGroup) -> None:
    view = make_group([0.0] * 15 + [1.0])
    assert strip.bars_of(view, view.images[-1])[0].width == 50


def test_an_image_without_a_score_says_why(make_group: MakeGroup) -> None:
    view = make_group([None, 0.4])
    assert strip.bars_of(view, view.images[0])[0].title == "verifier: no known attribute"
    assert "no known attribute" in strip.strip_html(view, picked=None)


def test_rewards_stand_in_the_same_order_everywhere(db: Database, make_group: MakeGroup) -> None:
    view = make_group()
    image = view.images[0].image.id
    groups.add_scores(db, [groups.ScoreInput(image, name, "1", 0.1) for name in ("zest", "quality", "clip")])
    assert strip.reward_names(groups.get_group(db, view.group.id)) == ["verifier", "clip", "quality", "zest"]


def test_people_s_words_are_escaped_wherever_they_stand(make_group: MakeGroup) -> None:
    view = make_group(prompt=NASTY)
    for html in (
        strip.strip_html(view, picked=None),
        strip.batch_html([view, view], picked=None),
        words.words_html(NASTY, knows=True),
    ):
        assert "<img src=x" not in html
        assert "</script>" not in html


def test_a_group_in_work_says_where_it_stands(services: Services, db: Database, base: Checkpoint) -> None:
    made = groups.request_group(db, prompt="portrait", checkpoint_id=base.id, config=_config(), seeds=[1, 2])
    view = groups.get_group(db, made.id)
    assert "Waiting: next in the queue, about 40 s left" in strip.strip_html(
        view, picked=None, position=0, wait=40
    )
    groups.claim_group(db, "w")
    groups.set_phase(db, made.id, "step 5 of 16")
    running = strip.strip_html(groups.get_group(db, made.id), picked=None)
    assert "Step 5 of 16" in running
    assert 'data-act="cancel"' in running
    groups.fail_group(db, made.id, "Out of memory <b>")
    assert "Failed: Out of memory &lt;b&gt;" in strip.strip_html(groups.get_group(db, made.id), picked=None)


def test_the_words_of_the_prompt_are_pressed_and_strange_ones_named() -> None:
    html = words.words_html("portrait, red hair, wistful", knows=True)
    assert 'data-tag="red hair" data-slot="hair colour" aria-pressed="true"' in html
    assert 'data-tag="blue hair" data-slot="hair colour" aria-pressed="false"' in html
    assert "does not know" in html and "wistful" in html
    assert words.words_html("anything", knows=False) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.06, "1.1 s"), (40, "40 s"), (360, "6 min"), (7_500, "2 h 5 min")]
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert span(seconds) == text


def _config() -> dict[str, object]:
    return {"num_steps": 16, "guidance_scale": 3.0, "width": 64, "height": 64, "negative_prompt": ""}
