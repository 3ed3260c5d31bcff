"""Studio: write a prompt, see a group of images and how the rewards compare them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from storage import boards
from ui import batches, canvas, history, queue, reuse
from ui.canvas import Seen
from ui.components import HIDDEN, live, render, sentence, topbar, words
from ui.components.lightbox import lightbox_html
from ui.components.studio_form import FIRST_PROMPT, MAX_LISTED, StudioForm, group_form, read, set_choices
from ui.forms import GroupForm
from ui.history import Sought
from ui.language import t
from ui.people import person_of
from ui.services import SHOWN_ERRORS, Services, shown

PATH = "/"
_TICK_SECONDS = 0.6
_ERRORS = (*SHOWN_ERRORS, PermissionError)
_REUSE = ("seed", "seeds", "settings", "prompt", "others")
"""Clicks that change the form, each with a way back."""
_NAVIGATION = ("open", "pick", "close")
_OF_FORM = ("undo", "recall", *_REUSE)


@dataclass(frozen=True)
class Drawn:
    """Stamps of what a browser shows, by place: a place is drawn again when its stamp changes."""

    stamps: dict[str, str] = field(default_factory=dict)


class _Page:
    """The widgets of the page, and what each of its events does."""

    PLACES = ("canvas", "recent", "queue", "lightbox")

    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Row(elem_classes="workspace"):
            with gr.Column(elem_id="panel"):
                self.form = StudioForm(services)
                self.recall = live("recall", render("recall.html"), js="recall.js")
                self.plan = live("plan")
                self.go = gr.Button(t("studio.generate"), variant="primary", elem_id="generate")
                self.message = live("message", js="studio.js")
                self.queue = live("queue-line", js="studio.js")
                self.chips = live("words", js="words.js")
            with gr.Column(elem_id="canvas"):
                self.canvas = live("group", js="studio.js")
                self.search = live("search", js="search.js")
                self.recent = live("recent", js="studio.js")
        self.lightbox = live("lightbox", js="lightbox.js")
        self.seen, self.sought = gr.State(Seen()), gr.State(Sought())
        self.before, self.stamps = gr.State(None), gr.State(Drawn())
        self.shown = [self.stamps, *(getattr(self, name) for name in self.PLACES)]

    def wire(self, page: gr.Blocks) -> None:
        """Connects the events; only the page's own clicks write `seen` and `sought`."""
        form = self.form
        first = [form.checkpoint, form.prompt_set, self.search, self.seen, self.sought]
        page.load(self.load, None, [*first, *self.shown], **HIDDEN)
        worded = [form.prompt, form.checkpoint]
        page.load(self.words, worded, self.chips, **HIDDEN)
        latest: dict[str, Any] = {"trigger_mode": "always_last", **HIDDEN}
        gr.on([widget.change for widget in worded], self.words, worded, self.chips, **latest)
        form.prompt_set.change(self.prompts, form.prompt_set, form.chosen, **HIDDEN)
        planned = [form.checkpoint, form.prompt_set, form.chosen]
        planned += [form.group_size, form.num_steps, form.guidance_scale]
        gr.on([widget.change for widget in planned], self.planned, form.inputs(), self.plan, **latest)
        state = [self.seen, self.sought]
        self.go.click(self.generate, form.inputs() + state, [self.message, self.seen, *self.shown], **HIDDEN)
        acted = [self.message, *form.inputs(), self.before, *state, *self.shown]
        for place in (self.message, self.recall, self.queue, self.canvas, self.recent, self.lightbox):
            place.act(self.act, [*state, self.before, *form.inputs()], acted, **HIDDEN)
        self.search.act(self.look_for, self.seen, [self.message, self.sought, *self.shown], **latest)
        gr.Timer(_TICK_SECONDS).tick(self.tick, [*state, self.stamps], self.shown, **HIDDEN)

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        """What the address names, else the newest group and the base."""
        query = dict(request.query_params)
        start = canvas.start(self.services, query)
        asked = history.sought(query)
        choices, sets = self.services.choices(), set_choices(self.services)
        known = [checkpoint_id for _, checkpoint_id in choices]
        wanted = [one for one in query.get("checkpoint", "").split(",") if one in known]
        chosen = wanted or known[-1:]
        named = query.get("prompts", "")
        is_known = named in [one for _, one in sets[1:]]
        return (
            gr.Dropdown(choices=choices, value=chosen),
            # no value where the address names none: somebody quick has chosen one already
            gr.Dropdown(choices=sets, value=named) if is_known else gr.Dropdown(choices=sets),
            history.search_html(self.services.db, asked),
            start,
            asked,
            *self.draw(start, asked, request),
        )

    def words(self, prompt: Any, chosen: Any) -> str:
        """The words that the starter knows, and those of the prompt that it does not."""
        try:
            first = chosen[0] if isinstance(chosen, list) and chosen else chosen
            knows = self.services.base_facts(self.services.checkpoint(first)).is_starter
        except SHOWN_ERRORS:
            knows = False
        return words.words_html(str(prompt or "")[:10_000], knows=knows)

    def prompts(self, prompt_set: Any) -> Any:
        """The prompts of the chosen set, to choose from."""
        try:
            texts = batches.texts_of(self.services.db, prompt_set)
        except SHOWN_ERRORS:
            texts = []
        return gr.Dropdown(choices=texts[:MAX_LISTED], value=[], visible=bool(texts))

    def planned(self, *typed: Any) -> str:
        """How much a click would ask for, where it is more than one group."""
        values = read(typed)
        try:
            return self._note(batches.plan_words(self.services, self._plan(values)))
        except SHOWN_ERRORS as error:
            is_many = bool(values["prompt_set"]) or len(values["checkpoint"] or ()) > 1
            return sentence(shown(error)) if is_many else ""

    def generate(self, request: gr.Request | None, *typed: Any) -> tuple[Any, ...]:
        """Queues what was planned and looks at it; a refusal changes nothing but the sentence."""
        *fields, _, sought = typed
        try:
            wanted = self._plan(read(fields))
            made = batches.queue(self.services.db, wanted, self._person(request).id)
        except _ERRORS as error:
            return sentence(shown(error)), *[gr.skip()] * (1 + len(self.shown))
        start = Seen(tuple(group.id for group in made))
        return "", start, *self.draw(start, sought, request)

    def act(
        self,
        event: gr.EventData,
        request: gr.Request | None,
        state: Seen,
        asked: Sought,
        before: Any,
        *typed: Any,
    ) -> dict[Any, Any]:
        """One click. Only those of _OF_FORM touch the form."""
        name, target = str(event.act), str(event.id)
        changed: dict[Any, Any] = {self.message: ""}
        notice = ""
        try:
            if name in _OF_FORM:
                return self._form_act(state, name, target, before, read(typed))
            if name in ("older", "newest"):
                place = {"before": target} if name == "older" else {"before": ""}
                asked = history.sought({**asked.fields, **place})
            elif name in _NAVIGATION:
                state = canvas.looked(state, name, target)
            elif name in ("board", "newboard"):
                notice = self._board(target, event, request)
            else:
                state = self._queue_act(state, name, target, request)
        except _ERRORS as error:
            if name == "newboard":
                notice = shown(error)
            else:
                return {self.message: sentence(shown(error))}
        changed |= {self.seen: state, self.sought: asked}
        return changed | dict(zip(self.shown, self.draw(state, asked, request, notice=notice), strict=True))

    def look_for(self, event: gr.EventData, request: gr.Request | None, state: Seen) -> tuple[Any, ...]:
        """Searches anew; what cannot be read is a sentence, and the old page stays."""
        wanted = history.sought({name: event._data.get(name) for name in history.FIELDS})
        try:
            history.filters_of(wanted)
        except SHOWN_ERRORS as error:
            return sentence(shown(error)), *[gr.skip()] * (1 + len(self.shown))
        return "", wanted, *self.draw(state, wanted, request)

    def tick(self, request: gr.Request | None, state: Seen, asked: Sought, last: Drawn) -> Any:
        """Redraws what changed; a click that came meanwhile is never undone by an old tick."""
        if not last.stamps:  # the load, which knows the address, has not drawn yet
            return [gr.skip()] * len(self.shown)
        return self.draw(state, asked, request, last)

    def draw(
        self,
        state: Seen,
        asked: Sought,
        request: gr.Request | None,
        last: Drawn | None = None,
        notice: str = "",
    ) -> list[Any]:
        """Stamps, then every place; with `last`, those that are still the same are left alone."""
        stamps = dict(last.stamps) if last else {}
        kept = self._history_key(state, asked)
        views = self.services.groups(state.groups[: canvas.SHOWN])
        made: dict[str, Any] = {
            "canvas": canvas.canvas_html(self.services, views, state),
            "queue": queue.queue_html(self.services, self._person(request)),
            "lightbox": lightbox_html(self.services.db, views, state.picked, notice),
        }
        now = {name: hashlib.sha256(html.encode()).hexdigest() for name, html in made.items()}
        now["recent"] = kept
        if stamps.get("recent") != kept:
            made["recent"] = self._history(asked, state)
        if now == stamps:
            return [gr.skip()] * len(self.shown)
        fresh = [made[name] if now[name] != stamps.get(name) else gr.skip() for name in self.PLACES]
        return [Drawn(now), *fresh]

    def _history(self, asked: Sought, state: Seen) -> str:
        try:
            return history.history_html(self.services.db, asked, state.groups)
        except SHOWN_ERRORS as error:
            return sentence(shown(error))

    def _history_key(self, state: Seen, asked: Sought) -> str:
        return str((history.stamp(self.services.db), state.groups, sorted(asked.fields.items())))

    def _plan(self, values: dict[str, Any]) -> list[batches.Wanted]:
        texts = batches.chosen_texts(self.services.db, values["prompt_set"], values["chosen"])
        return batches.plan(self.services, values["checkpoint"], group_form(values), texts)

    def _person(self, request: gr.Request | None) -> Any:
        return person_of(self.services.db, request)

    def _form_act(
        self, state: Seen, name: str, target: str, before: Any, typed: dict[str, Any]
    ) -> dict[Any, Any]:
        """Replaces fields of the form, or puts back what they were."""
        if name == "undo":
            put_back = self.form.replaced(before) if before else {}
            return {self.message: "", self.before: None, **put_back}
        said = t("studio.chose_others") if name == "others" else t("studio.replaced")
        if name == "recall":
            values, said = reuse.recalled(self.services, target)
        else:
            values = reuse.values(self.services, state, name, target)
        kept = {one: typed[one] for one in values}
        return {
            self.message: render("undo.html", text=said),
            self.before: kept,
            self.seen: replace(state, picked=None),
            self.lightbox: "",
            **self.form.replaced(values),
        }

    def _queue_act(self, state: Seen, name: str, target: str, request: gr.Request | None) -> Seen:
        """Cancels, or asks for another group and looks at it."""
        person = self._person(request)
        if name == "cancel":
            queue.cancel(self.services.db, target, person)
        elif name == "cancelmine":
            queue.cancel_mine(self.services.db, person)
        elif name == "more":
            view = self.services.group(target)
            if view is not None:
                return Seen((batches.more_like(self.services, view, person.id).id,))
        elif name == "demo":
            return Seen((self._demo(person.id),))
        return state

    def _demo(self, by: str) -> str:
        starter = canvas.starter(self.services)
        form = GroupForm(prompt=FIRST_PROMPT)
        wanted = batches.plan(self.services, starter.id if starter else "", form, ())
        return batches.queue(self.services.db, wanted, by)[0].id

    def _board(self, image_id: str, event: gr.EventData, request: gr.Request | None) -> str:
        """Puts the image on a board or takes it off; what was done."""
        named, db = str(event.board), self.services.db
        if event.act == "newboard":
            made = boards.create_board(db, named, self._person(request).id)
            boards.add_images(db, made.id, [image_id])
            return t("studio.on_board", name=made.name)
        if boards.remove_image(db, named, image_id):
            return t("studio.off_board")
        boards.add_images(db, named, [image_id])
        return t("studio.put_on_board")

    def _note(self, text: str) -> str:
        return render("note.html", text=text) if text else ""


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(page, PATH, services)
    _Page(services).wire(page)
