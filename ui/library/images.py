"""Images: all of them, newest first, found by what is known of them, and put together on boards."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

from storage import boards, catalog, infotext, search
from storage.models import GroupKind, User
from storage.rating_kinds import Flag
from storage.search import Filters, ImagePage, Rated
from ui import cards, forms
from ui.components import strip
from ui.forms import Refused
from ui.language import t
from ui.library.shelf import Done, Fields, Query, Tab, address, text_of, texts_of
from ui.media import thumb_url
from ui.services import Services

FILTERS = (
    "q",
    "checkpoint",
    "reward",
    "low",
    "high",
    "rated",
    "stars",
    "flag",
    "since",
    "until",
    "kind",
    "board",
)
"""What the address says of a search, beside the page and the image that is open."""
_DAY = timedelta(days=1)


def view(services: Services, query: Query) -> dict[str, Any]:
    """A page of the images that match, the form that says what matches, and perhaps one image in full."""
    filters = filters_of(query)
    page = search.search_images(services.db, filters, query.get("before"))
    asked = {name: query[name] for name in FILTERS if name in query}
    here = {"tab": "images", **asked, **({"before": query["before"]} if "before" in query else {})}
    return {
        "page": page,
        "count": search.count_words(search.count_images(services.db, filters)),
        "asked": dict.fromkeys(FILTERS, "") | asked,
        "is_filtered": bool(set(asked) - {"board"}),
        "is_narrowed": bool(set(asked) - {"board", "q"}),
        "before": query.get("before", ""),
        "here": address(here),
        "next": address({"tab": "images", **asked, "before": page.next or ""}) if page.next else "",
        "first": address({"tab": "images", **asked}),
        "choices": _choices(services, query),
        "boards": boards.list_boards(services.db),
        "board": _board(services, query.get("board", "")),
        "opened": _opened(services, query["image"], page) if "image" in query else None,
        "thumb_url": thumb_url,
    }


def _choices(services: Services, query: Query) -> dict[str, Any]:
    """What the selects of the form offer."""
    names = {*cards.reward_cards(services.db), *([query["reward"]] if "reward" in query else [])}
    return {
        "checkpoint": services.choices(),
        "reward": [name for name in strip.REWARD_ORDER if name in names]
        + sorted(names.difference(strip.REWARD_ORDER)),
        "rated": get_args(Rated),
        "stars": ("1", "2", "3", "4", "5"),
        "flag": get_args(Flag),
        "kind": get_args(GroupKind),
    }


def filters_of(query: Query) -> Filters:
    """The search of an address.

    Raises:
        Refused: a value that is none, in a sentence.
    """
    low, high = (_number(query, name) for name in ("low", "high"))
    if (low is not None or high is not None) and "reward" not in query:
        raise Refused("A range needs a reward: choose the reward that it is about.")
    if low is not None and high is not None and low > high:
        raise Refused(f"The range runs from {low:g} down to {high:g}: swap the two.")
    kind = _one_of(query, "kind", get_args(GroupKind))
    return Filters(
        words=query.get("q", ""),
        checkpoint_id=query.get("checkpoint"),
        reward=query.get("reward"),
        low=low,
        high=high,
        rated=_one_of(query, "rated", get_args(Rated)),  # type: ignore[arg-type]
        stars=forms.whole(query["stars"], "Stars", 1, 5) if "stars" in query else None,
        flag=_one_of(query, "flag", get_args(Flag)),  # type: ignore[arg-type]
        since=_day(query, "since"),
        until=until + _DAY if (until := _day(query, "until")) else None,
        board_id=query.get("board"),
        kinds=(kind,) if kind else (),  # type: ignore[arg-type]
    )


def _number(query: Query, name: str) -> float | None:
    if name not in query:
        return None
    return forms.real(query[name], "An end of the range", -1e9, 1e9)


def _one_of(query: Query, name: str, known: Sequence[str]) -> str | None:
    value = query.get(name)
    if value is not None and value not in known:
        raise Refused(f"The address asks for {name} {value[:40]}, which is none: choose from the list.")
    return value


def _day(query: Query, name: str) -> datetime | None:
    """Midnight of this machine's clock."""
    if name not in query:
        return None
    try:
        return datetime.strptime(query[name], "%Y-%m-%d").astimezone()
    except (ValueError, OverflowError) as error:
        raise Refused(f"A date is written 2026-01-31, not {query[name][:40]}: write it so.") from error


def _board(services: Services, board_id: str) -> Any:
    if not board_id:
        return None
    found = next((one for one in boards.list_boards(services.db) if one.board.id == board_id), None)
    if found is None:
        raise Refused("There is no board with this id: choose one from the list.")
    return found


def _opened(services: Services, image_id: str, page: ImagePage) -> dict[str, Any]:
    """One image with all that is known of it, and its neighbours on the page."""
    try:
        group = catalog.group_of_image(services.db, image_id)
    except LookupError as error:
        raise Refused("There is no image with this id: choose one from the page.") from error
    image = next(one for one in group.images if one.image.id == image_id)
    ids = [one.view.image.id for one in page.images]
    place = ids.index(image_id) if image_id in ids else None
    return {
        "image": image,
        "group": group.group,
        "checkpoint": group.checkpoint,
        "settings": strip.settings_line(group.group.config),
        "bars": strip.bars_of(group, image),
        "value_of": strip.value_of,
        "infotext": infotext.infotext_of(services.db.home, image.image.sha256),
        "boards": boards.boards_of(services.db, [image_id]).get(image_id, []),
        "earlier": ids[place - 1] if place else "",
        "later": ids[place + 1] if place is not None and place + 1 < len(ids) else "",
    }


# What can be done


def add(services: Services, person: User, fields: Fields) -> Done:
    """Puts the chosen images on a board, which is made where a name was typed."""
    chosen = _chosen(fields)
    name, board_id = text_of(fields, "new"), text_of(fields, "board")
    if not name and not board_id:
        raise Refused("Choose a board, or write the name of a new one.")
    made = boards.create_board(services.db, name, person.id) if name else None
    target = made.id if made else board_id
    count = boards.add_images(services.db, target, chosen)
    board = next(one.board for one in boards.list_boards(services.db) if one.board.id == target)
    return Done(t("library.put", n=count, board=board.name))


def take(services: Services, person: User, fields: Fields) -> Done:
    """Takes the chosen images off a board; they stay in the library."""
    board_id = text_of(fields, "board")
    taken = [boards.remove_image(services.db, board_id, one) for one in _chosen(fields)]
    return Done(t("library.taken", n=sum(taken)))


def rename(services: Services, person: User, fields: Fields) -> Done:
    """Gives a board another name."""
    made = boards.rename(services.db, text_of(fields, "board"), text_of(fields, "name"))
    return Done(t("library.renamed", name=made.name))


def _chosen(fields: Fields) -> list[str]:
    chosen = texts_of(fields, "images")
    if not chosen:
        raise Refused("No image is chosen: tick some first.")
    return chosen


TAB = Tab("images", view, {"add": add, "take": take, "rename-board": rename})
