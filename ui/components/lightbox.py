"""One image, large, with all that is known of it. It changes nothing on the page behind it."""

from __future__ import annotations

from dataclasses import dataclass

from storage import blobs, boards
from storage.engine import Database
from storage.groups import GroupView, ImageView
from ui.components import render, signed
from ui.components.strip import reward_names, settings_line, spread_of, value_of

PARAMETERS = "parameters"
"""Where a PNG keeps A1111's text."""


@dataclass(frozen=True)
class Fact:
    """One reward of the image against its group; `value` None with a reason where there is none."""

    name: str
    value: float | None
    reason: str
    mean: float
    std: float
    n: int

    @property
    def difference(self) -> str:
        """From the group's mean, with its sign."""
        return signed(self.value - self.mean, 3) if self.value is not None else ""


def facts_of(view: GroupView, image: ImageView) -> list[Fact]:
    """Every reward that has a value somewhere in the group."""
    found = []
    for name in reward_names(view):
        spread = spread_of(view.images, name)
        if spread is not None:
            score = image.scores.get(name)
            reason = score.reason if score and score.reason else ""
            value = value_of(image, name)
            found.append(Fact(name, value, reason, spread.mean, spread.std, spread.n))
    return found


def neighbours(views: list[GroupView], image_id: str) -> tuple[str | None, str | None]:
    """The images before and after one among all that stand on the canvas."""
    order = [image.image.id for view in views for image in view.images]
    place = order.index(image_id)
    before = order[place - 1] if place else None
    return before, order[place + 1] if place + 1 < len(order) else None


def infotext(db: Database, image: ImageView) -> str:
    """The text that the PNG carries; empty where the file is gone or says nothing."""
    try:
        png = blobs.path_of(db.home, image.image.sha256).read_bytes()
    except OSError:
        return ""
    return blobs.text_of(png, PARAMETERS) or ""


def lightbox_html(db: Database, views: list[GroupView], picked: str | None, notice: str = "") -> str:
    """Renders the picked image; empty when none is, or it is not on the canvas."""
    found = next(((v, i) for v in views for i in v.images if i.image.id == picked), None)
    if found is None:
        return ""
    view, image = found
    before, after = neighbours(views, image.image.id)
    on = {board.id for board in boards.boards_of(db, [image.image.id]).get(image.image.id, [])}
    return render(
        "lightbox.html",
        view=view,
        image=image,
        before=before,
        after=after,
        facts=facts_of(view, image),
        settings=settings_line(view.group.config),
        infotext=infotext(db, image),
        boards=boards.list_boards(db),
        on=on,
        notice=notice,
        full=max(image.image.width * 6, 384) if image.image.width < 256 else image.image.width,
    )
