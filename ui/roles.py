"""Who may do what: powers of roles, and which power each handler of a page and each route needs.

What stands in no table needs an admin, and a test is red until it stands there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from storage.models import Role, User
from ui.language import t

Power = Literal["anyone", "look", "rate", "make", "train", "administer"]
Need = Power | Literal["open", "nobody"]
"""Of a route: "open" to who is not logged in as well; "nobody": Gradio has it, and the studio does not."""

_ARTISTS: Final = ("artist", "trainer", "admin")
MAY: Final[Mapping[Power, tuple[Role, ...]]] = {
    "anyone": ("viewer", "annotator", *_ARTISTS),
    "look": ("viewer", *_ARTISTS),
    "rate": ("annotator", *_ARTISTS),
    "make": _ARTISTS,
    "train": ("trainer", "admin"),
    "administer": ("admin",),
}
"""An annotator judges blind, so what shows scores, votes of others and checkpoints is closed to them."""


def may(person: User, power: Power) -> bool:
    """Whether a role has a power."""
    return person.active and person.role in MAY[power]


def may_open(person: User, path: str) -> bool:
    """Whether a page is for somebody."""
    need = need_of_path(path)
    return need == "open" or (need != "nobody" and may(person, need))


HOMES: Final[tuple[tuple[Power, str], ...]] = (("look", "/"), ("rate", "/rate"))
"""Where somebody lands, by the first of these powers that their role has."""


def home_of(person: User) -> str:
    """Where somebody's work is."""
    return next((path for power, path in HOMES if may(person, power)), "/account")


def refusal(person: User, power: Power) -> str:
    """Why not, and what to do."""
    return t("access.refused", role=t(f"team.role_{person.role}"), what=t(f"access.cannot_{power}"))


@dataclass(frozen=True)
class Acts:
    """What a handler needs that does several things, by the name of the act.

    Attributes:
        rest: needed by every act that is not named here.
        named: act to power.
    """

    rest: Power
    named: Mapping[str, Power]

    def of(self, act: str) -> Power:
        """What an act needs."""
        return self.named.get(act, self.rest)


def _look(*acts: str) -> dict[str, Power]:
    return dict.fromkeys(acts, "look")


_STUDIO = Acts(
    "make",
    _look(
        "open",
        "pick",
        "close",
        "older",
        "newest",
        "undo",
        "seed",
        "seeds",
        "settings",
        "prompt",
        "others",
        "recall",
    ),
)
_LIBRARY = Acts(
    "train",
    {
        **dict.fromkeys(("add", "take", "rename-board", "import", "edit"), "make"),
        **dict.fromkeys(("base", "cancel-base", "accept", "point"), "administer"),
    },
)


def _all(power: Power, module: str, names: str) -> dict[str, Power | Acts]:
    return {f"{module}.{name}": power for name in names.split()}


HANDLERS: Final[Mapping[str, Power | Acts]] = {
    **_all("anyone", "ui.components.topbar", "build.tick"),
    # Pages
    **_all("look", "ui.pages.studio", "_Page.load _Page.words _Page.prompts _Page.planned"),
    **_all("look", "ui.pages.studio", "_Page.look_for _Page.tick"),
    "ui.pages.studio._Page.generate": "make",
    "ui.pages.studio._Page.act": _STUDIO,
    **_all("rate", "ui.pages.rate", "build.load build.answer build.look build.stay build.prefer"),
    "ui.pages.rate.build.practise": "rate",
    **_all("rate", "ui.pages.blind", "build.load build.answer build.tick"),
    **_all("look", "ui.pages.compare", "build.show"),
    **_all("look", "ui.pages.train", "_Page.offer _Page.fitted _Page.check _Page.agree _Page.preset _stage"),
    **_all("look", "ui.pages.train", "_Page.prompts _Page.dropped _Page.fix _Page.measured _Page.load"),
    **_all("look", "ui.pages.train", "_Page.teachers _Page.tick"),
    **_all("train", "ui.pages.train", "_Page.measure _Page.start _Page.teach"),
    "ui.pages.train._Page.act": Acts("train", _look("open", "with", "without", "log")),
    **_all("look", "ui.pages.library", "_Page.load _Page.go _Page.tick"),
    "ui.pages.library._Page.act": _LIBRARY,
    **_all("look", "ui.pages.team", "_Page.load _Page.tick"),
    "ui.pages.team._Page.act": Acts("administer", {**_look("open", "preview"), "count": "make"}),
    # Parts of Compare
    **_all(
        "look", "ui.parts.grid", "_Part.load _Part.first _Part.fill_again _Part.fill _Part.draw _Part.tick"
    ),
    "ui.parts.grid._Part.act": Acts("make", _look("page")),
    **_all("look", "ui.parts.axes", "_Part.load _Part.first _Part.fill_again _Part.draw _Part.tick"),
    **_all("look", "ui.parts.axes", "_Part.switch.switched"),
    **_all("look", "ui.parts.axes_form", "looks"),
    "ui.parts.axes._Part.act": Acts("make", _look("open", "page")),
    **_all("look", "ui.components.judging_form", "JudgingForm.take"),
    **_all("look", "ui.parts.blind", "_Part.load _Part.redraw _Part.tick"),
    "ui.parts.blind._Part.start": "make",
    "ui.parts.blind._Part.act": Acts("make", _look("open")),
    **_all("look", "ui.parts.leaderboard", "build.load build.tick"),
    "ui.parts.leaderboard.build.act": "make",
    **_all("look", "ui.parts.evaluations", "_Part.load _Part.redraw _Part.tick"),
    "ui.parts.evaluations._Part.start": "make",
    "ui.parts.evaluations._Part.act": Acts("make", _look("open")),
    # The API
    **_all("look", "ui.api", "_get_group.get_group _get_run.get_run _compare.compare"),
    **_all("look", "ui.api", "_list_checkpoints.list_checkpoints"),
    **_all("make", "ui.api", "_generate_group.generate_group"),
    **_all("rate", "ui.api", "_next_task.next_task _rate.rate"),
    **_all("train", "ui.api", "_start_run.start_run _stop_run.stop_run"),
    **_all("rate", "ui.api_judging", "_next_pair.next_pair _vote_pair.vote_pair _undo_pair.undo_pair"),
    **_all("look", "ui.api_judging", "_blind_results.blind_results _get_job.get_job _list_fits.list_fits"),
    **_all("make", "ui.api_judging", "_start_blind_test.start_blind_test"),
    **_all("make", "ui.api_judging", "_request_calibration.request_calibration"),
    **_all("make", "ui.api_judging", "_request_agreement.request_agreement"),
    **_all("make", "ui.api_judging", "_request_leaderboard.request_leaderboard"),
    **_all("train", "ui.api_judging", "_apply_fit.apply_fit _withdraw_fit.withdraw_fit"),
    **_all("train", "ui.api_learning", "_request_head.request_head _learn_from_ratings.learn_from_ratings"),
    **_all("look", "ui.api_learning", "_list_rewards.list_rewards"),
    **_all("administer", "ui.api_learning", "_accept_notice.accept_notice"),
    **_all("make", "ui.api_evaluation", "_evaluate.evaluate"),
    **_all("look", "ui.api_evaluation", "_get_evaluation.get_evaluation"),
}
"""Every function that a browser or a client can have called, by module and name."""

_GRADIO = r"/gradio_api"
ROUTES: Final[tuple[tuple[str, Need], ...]] = (
    (r"/(login|logout|setup|access\.css|access\.js|healthz)", "open"),
    (
        r"/(assets|static|svelte)/.*|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/pwa_icon.*",
        "open",
    ),
    (rf"{_GRADIO}/(theme\.css|startup-events|app_id)/?", "open"),
    (r"/account(/.*)?|/person", "anyone"),
    (r"/(compare|train|library|team)?/?", "look"),
    (r"/(rate|blind)/?", "rate"),
    (r"/media/blind/.*", "rate"),
    (r"/media/.*", "anyone"),
    (r"/library/.*|/evaluations/.*|/runs/.*", "look"),
    (r"/exports/ratings/.*|/ratings", "administer"),
    (r"/exports/.*|/datasets|/adapters", "train"),
    (r"/recall", "look"),
    (r"/metrics", "administer"),
    (r"/config/?", "anyone"),
    # what a page and a client of Gradio need; each function of theirs is guarded by HANDLERS
    (rf"{_GRADIO}/(queue/(join|data)|(run|api|call)/.*|cancel|reset/?|heartbeat/.*)", "anyone"),
    (rf"{_GRADIO}/(info|openapi\.json|user|login_check|token)/?", "anyone"),
    (
        rf"{_GRADIO}/.*|/(monitoring|gradio_api|login_check|api|proxy=|file=|dev|vibe|deep_link).*|/login/",
        "nobody",
    ),
)
"""The first that matches a whole path holds."""


def name_of(fn: Callable[..., Any]) -> str:
    """What HANDLERS calls a function."""
    return f"{fn.__module__}.{fn.__qualname__}".replace(".<locals>", "")


def need_of(fn: Callable[..., Any], act: str = "") -> Power:
    """What calling a handler needs; an admin for one that nobody thought of."""
    found = HANDLERS.get(name_of(fn), "administer")
    return found.of(act) if isinstance(found, Acts) else found


def need_of_path(path: str) -> Need:
    """What asking for a path needs; an admin for one that nobody thought of."""
    return next((need for pattern, need in ROUTES if re.fullmatch(pattern, path)), "administer")
