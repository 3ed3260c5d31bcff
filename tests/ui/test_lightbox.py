"""The lightbox: one image with its scores against the group, its text, its boards, and its neighbours."""

from __future__ import annotations

from storage import blobs, boards
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint
from tests.ui.conftest import MakeGroup
from ui.components import lightbox

NASTY = "<img src=x onerror=alert(1)> ${alert(2)} {{7*7}}"


def shown(db: Database, views: list[GroupView], place: int = 0) -> str:
    return lightbox.lightbox_html(db, views, views[0].images[place].image.id)


def test_scores_stand_against_the_group_s_mean(db: Database, make_group: MakeGroup) -> None:
    view = make_group([0.2, 0.8, None])
    (fact,) = lightbox.facts_of(view, view.images[1])
    assert (fact.mean, fact.n, fact.difference) == (0.5, 2, "+0.300")
    assert "no known attribute" in shown(db, [view], 2)
    assert "of 2" in shown(db, [view])


def test_neighbours_are_all_images_of_the_canvas_in_their_order(make_group: MakeGroup) -> None:
    views = [make_group(), make_group()]
    first, second, third, last = (image.image.id for view in views for image in view.images)
    assert lightbox.neighbours(views, first) == (None, second)
    assert lightbox.neighbours(views, third) == (second, last)
    assert lightbox.neighbours(views, last) == (third, None)


def test_nothing_is_shown_of_an_image_that_is_not_on_the_canvas(db: Database, make_group: MakeGroup) -> None:
    view, other = make_group(), make_group()
    assert lightbox.lightbox_html(db, [view], other.images[0].image.id) == ""
    assert lightbox.lightbox_html(db, [view], None) == ""


def test_people_s_words_are_escaped(db: Database, make_group: MakeGroup) -> None:
    view = make_group(prompt=NASTY)
    board = boards.create_board(db, NASTY, "local")
    boards.add_images(db, board.id, [view.images[0].image.id])
    html = shown(db, [view])
    assert "<img src=x" not in html and html.count("&lt;img src=x") == 2
    assert 'aria-pressed="true"' in html


def test_the_text_of_the_png_can_be_copied_where_it_has_one(
    db: Database, make_group: MakeGroup, base: Checkpoint
) -> None:
    view = make_group()
    assert "data-copy" not in shown(db, [view]).replace("data-copied", "")
    path = blobs.path_of(db.home, view.images[0].image.sha256)
    path.chmod(0o644)
    path.write_bytes(with_text("portrait, 赤い髪\nSteps: 8, Seed: 7"))
    assert "portrait, 赤い髪\nSteps: 8, Seed: 7" in shown(db, [view])
    path.unlink()
    assert lightbox.infotext(db, view.images[0]) == ""


def with_text(text: str) -> bytes:
    """A PNG that says how it was made, as the engine writes it."""
    import io

    from PIL import Image as Picture
    from PIL.PngImagePlugin import PngInfo

    info, file = PngInfo(), io.BytesIO()
    info.add_itxt("parameters", text)
    Picture.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()
