"""Train: a new run in five steps at the left, and a run as it learns at the right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from storage.models import Run
from storage.rated import rated_groups
from storage.run_news import news_of
from ui import (
    checking,
    prompt_choice,
    recipes,
    run_about,
    run_acts,
    run_log,
    run_view,
    teaching,
    tuning,
    weights,
)
from ui.agreement import LOOKED_BACK
from ui.components import HIDDEN, agree, live, samples, sentence, topbar
from ui.forms import FIRST_PRESET
from ui.people import person_of
from ui.run_view import Looking
from ui.services import SHOWN_ERRORS, Services, shown
from ui.wizard import Typed, Wizard, base_of, filled

PATH = "/train"
_TICK_SECONDS, _TEACHING_SECONDS = 1.5, 3.0
PARTS = ("run", "curves", "samples", "about", "log", "runs")
"""The places of the right side, each redrawn only with news of its own."""
_SCRIPTS = {"curves": "curves.js", "samples": "samples.js"}


class _Page:
    """The widgets of the page, and what each of its events does."""

    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Row(elem_classes="workspace"):
            with gr.Column(elem_id="panel"):
                self.form = Wizard(services)
            with gr.Column(elem_id="canvas"):
                self.places = {name: live(name, js=_SCRIPTS.get(name, "run.js")) for name in PARTS}
        self.seen, self.stamps = gr.State(Looking()), gr.State({})
        self.drawn = [self.seen, self.stamps, *self.places.values()]

    def wire(self, page: gr.Blocks) -> None:
        """Connects the events; only the page's own clicks change what is looked at."""
        self._wire_form(page)
        drawn, form = self.drawn, self.form
        page.load(self.load, None, drawn, **HIDDEN)
        form.go.click(self.start, form.inputs(), [form.message, *drawn], **HIDDEN)
        for name in sorted(set(PARTS) - {"samples"}):  # whose slider asks the server nothing
            place = self.places[name]
            place.act(self.act, self.seen, [form.message, *drawn], **HIDDEN)
        told = [gr.State(""), form.teaching, form.quick]
        taught = [form.message, *told, *form.weights.values(), form.weights_from, *drawn]
        for place in (form.teaching, form.quick):
            place.act(self.teach, form.checkpoint, taught, **HIDDEN)
        page.load(self.teachers, None, told, **HIDDEN)
        gr.Timer(_TEACHING_SECONDS).tick(self.teachers, told[:1], told, **HIDDEN)
        gr.Timer(_TICK_SECONDS).tick(self.tick, drawn[:2], drawn[1:], **HIDDEN)

    def _wire_form(self, page: gr.Blocks) -> None:
        form = self.form
        typed, said = form.inputs(), [form.checks, form.plan, form.cost]
        offered = [form.checkpoint, form.prompt_set, form.images["dataset"], form.fields["preset"]]
        page.load(self.offer, None, offered, **HIDDEN)
        page.load(self.fitted, None, [*form.weights.values(), form.weights_from], **HIDDEN)
        page.load(self.check, typed, said, **HIDDEN)
        changes = [widget.change for widget in typed]
        gr.on(changes, self.check, typed, said, trigger_mode="always_last", **HIDDEN)
        asked = [form.fields["preset"], *form.weights.values()]
        page.load(self.agree, asked, form.agreement, **HIDDEN)
        weighing = [widget.change for widget in asked]
        gr.on(weighing, self.agree, asked, form.agreement, trigger_mode="always_last", **HIDDEN)
        form.fields["preset"].input(self.preset, asked[:1], form.preset_widgets(), **HIDDEN)
        form.way.change(_stage, form.way, form.stage, **HIDDEN)
        held = [form.fields["prompts"], form.fields["held_out"]]
        form.prompt_set.input(self.prompts, form.prompt_set, [form.message, *held], **HIDDEN)
        form.drop.act(self.dropped, None, form.images["dataset"], **HIDDEN)
        form.checks.act(self.fix, typed, [form.message, *typed], **HIDDEN)
        clock = gr.Timer(_TEACHING_SECONDS, active=False)
        form.cost.act(self.measure, typed, [form.message, clock, *said], **HIDDEN)
        clock.tick(self.measured, typed, [clock, *said], **HIDDEN)

    # The new run

    def offer(self) -> tuple[Any, ...]:
        """What there is to choose from, as of now."""
        choices = self.services.choices()
        return (
            gr.Dropdown(choices=choices, value=base_of(choices)),
            gr.Dropdown(choices=prompt_choice.choices(self.services.db)),
            gr.Dropdown(choices=recipes.dataset_choices(self.services.db)),
            gr.Radio(choices=checking.preset_choices(self.services)),
        )

    def check(self, *typed: Any) -> tuple[str, ...]:
        """The preflight list, the line beside Start and the budget of the form as it stands."""
        said = checking.said(self.services, Typed(typed))
        return said.checks, said.plan, said.cost

    def fix(self, event: gr.EventData, *typed: Any) -> list[Any]:
        """One click on Fix: what it changes of the form."""
        read = Typed(typed)
        try:
            checkpoint, form = checking.fix(self.services, read, str(event.id))
        except SHOWN_ERRORS as error:
            return [sentence(shown(error)), *[gr.skip()] * len(typed)]
        return ["", *read.changes(form, checkpoint)]

    def dropped(self, event: gr.EventData) -> Any:
        """The images that have just arrived are chosen."""
        return gr.Dropdown(choices=recipes.dataset_choices(self.services.db), value=str(event.id))

    def measure(self, request: gr.Request, *typed: Any) -> tuple[Any, ...]:
        """Asks the engine what the form takes, and looks again until it has answered."""
        try:
            checking.measure(self.services, Typed(typed), person_of(self.services.db, request).id)
        except SHOWN_ERRORS as error:
            return sentence(shown(error)), *[gr.skip()] * 4
        return "", gr.Timer(active=True), *self.check(*typed)

    def measured(self, *typed: Any) -> tuple[Any, ...]:
        """What the engine has answered so far."""
        return gr.Timer(active=checking.is_measuring(self.services)), *self.check(*typed)

    def fitted(self) -> list[Any]:
        """The weights to begin with, and whose votes they follow, where some are in use."""
        return list(fitted(self.services))

    def agree(self, preset: Any, *typed: Any) -> str:
        """How often each reward, and all of them as the preset weighs them, agree with the people."""
        seen = rated_groups(self.services.db, LOOKED_BACK)
        weighed = dict(zip(tuning.REWARDS, typed, strict=True))
        return agree.agree_html(seen, weighed, is_pooled=tuning.is_pooled(str(preset)))

    def preset(self, name: Any) -> list[Any]:
        """The numbers of a preset."""
        return filled(tuning.preset_form(str(name), self.services.db))

    def prompts(self, set_id: Any) -> tuple[Any, ...]:
        """The prompts of a saved set; what is typed stays where none is chosen."""
        if set_id == prompt_choice.TYPED:
            return "", gr.skip(), gr.skip()
        try:
            return "", *prompt_choice.lines_of(self.services.db, str(set_id))
        except LookupError as error:
            return sentence(shown(error)), gr.skip(), gr.skip()

    def teachers(self, last: str | None = None) -> tuple[Any, ...]:
        """What was learned from ratings, as it stands now; redrawn where it is not what it was."""
        told, quick = teaching.teaching_html(self.services.db), checking.quick_html(self.services)
        return (told + quick, told, quick) if told + quick != last else (gr.skip(),) * 3

    def teach(self, checkpoint: Any, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """One click on what ratings teach; weights that are put to use are filled in at once."""
        act, problem, run = str(event.act), "", None
        who = person_of(self.services.db, request).id
        try:
            run = teaching.acted(self.services, act, str(event.id), checkpoint, who)
        except SHOWN_ERRORS as error:
            problem = shown(error)
        is_moved = not problem and act in ("apply", "withdraw")
        new = self.fitted() if is_moved else [gr.skip()] * (len(tuning.REWARDS) + 1)
        return sentence(problem), *self.teachers(), *new, *(self._look(run) if run else self._as_it_is())

    def start(self, request: gr.Request, *typed: Any) -> tuple[Any, ...]:
        """Queues what the form says and looks at it; a refusal changes nothing but the sentence."""
        read, who = Typed(typed), person_of(self.services.db, request).id
        try:
            run = recipes.start(
                self.services,
                read.way,
                read.checkpoint,
                read.form,
                read.images,
                prompt_set=read.prompt_set,
                who=who,
            )
        except SHOWN_ERRORS as error:
            return sentence(shown(error)), *self._as_it_is()
        return "", *self._look(run)

    # The run that is looked at

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        """The run of the address with those beside it, else the newest."""
        run = tuning.find(self.services, request.query_params.get("run"))
        beside = tuple(filter(None, (request.query_params.get("with") or "").split(",")))
        looking = Looking(run.id if run else None, beside[: run_view.MAX_BESIDE])
        return looking, *draw(self.services, looking, {})

    def act(self, state: Looking, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """One click on a run."""
        who = person_of(self.services.db, request).id
        problem, looking = run_acts.looked(self.services, state, str(event.act), str(event.id), who)
        return sentence(problem), looking, *draw(self.services, looking, {})

    def tick(self, state: Looking, last: Mapping[str, str]) -> tuple[Any, ...]:
        """Redraws what has news."""
        return draw(self.services, state, last)

    def _look(self, run: Run) -> tuple[Any, ...]:
        looking = Looking(run.id)
        return looking, *draw(self.services, looking, {})

    def _as_it_is(self) -> list[Any]:
        return [gr.skip()] * len(self.drawn)


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(page, PATH, services)
    _Page(services).wire(page)


def _stage(way: Any) -> Any:
    return gr.Column(visible=way != recipes.WAYS[0])


def fitted(services: Services) -> tuple[Any, ...]:
    """The weights that a form begins with, and a sentence on whose votes they follow, if any."""
    found = weights.fitted(services.db, tuning.REWARDS)
    first = tuning.preset_form(FIRST_PRESET, services.db).weights
    words = weights.words_html(found)
    return *(first.get(name, 0.0) for name in tuning.REWARDS), words


def draw(services: Services, looking: Looking, last: Mapping[str, str]) -> tuple[Any, ...]:
    """The stamps of all parts, then each part; those that have no news since `last` are left as they are."""
    run = tuning.find(services, looking.run_id)
    drawn = {
        name: _part(part, stamp, last.get(name))
        for name, (stamp, part) in _parts(services, run, looking).items()
    }
    stamps = {name: stamp for name, (stamp, _) in drawn.items()}
    if stamps == dict(last):
        return gr.skip(), *[gr.skip()] * len(PARTS)
    return stamps, *(drawn[name][1] for name in PARTS)


def _part(part: Callable[[], str], stamp: str | None, last: str | None) -> tuple[str, Any]:
    """(its stamp, its HTML); drawn only where its stamp moved. Without a stamp its HTML is one."""
    if stamp is not None:
        return stamp, (gr.skip() if stamp == last else part())
    html = part()
    found = hashlib.sha256(html.encode()).hexdigest()
    return found, (gr.skip() if found == last else html)


def _parts(
    services: Services, run: Run | None, looking: Looking
) -> dict[str, tuple[str | None, Callable[[], str]]]:
    """Part to its stamp, where there is a cheap one, and how it is drawn."""
    db = services.db
    news = news_of(db, run.id) if run else None
    own = f"{run.id} {run.state}" if run else ""
    points = [news_of(db, one) for one in looking.beside]
    curves = [
        own,
        looking.beside,
        *((one.attempt, one.points, one.last_update) for one in (news, *points) if one),
    ]
    about = [own, (news.attempt, news.events, news.checkpoints, news.exports) if news else None]
    log = [own, looking.has_log, run_log.log_size(db, run.id) if run and _shows_log(run, looking) else 0]
    return {
        "run": (None, lambda: run_view.head_html(services, run)),
        "curves": (str(curves), lambda: run_view.curves_html(services, run, looking.beside)),
        "samples": (
            str([own, news and news.images]),
            lambda: samples.samples_html(db, run.id) if run else "",
        ),
        "about": (str(about), lambda: run_about.about_html(services, run)),
        "log": (str(log), lambda: run_view.log_html(services, run, is_open=looking.has_log)),
        "runs": (None, lambda: run_view.list_html(services, looking, run.id if run else None)),
    }


def _shows_log(run: Run, looking: Looking) -> bool:
    return looking.has_log or run.state in run_view.BROKEN
