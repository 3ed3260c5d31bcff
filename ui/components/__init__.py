"""Small components of our own: a view (plain data) and a template each.

Templates are Jinja with autoescape on, rendered here; they reach the page as the value of a `gr.HTML`.
People's words never pass through Gradio's Handlebars templates: their output is pasted into a JavaScript
template literal, so a prompt that says `${...}` would run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ui.language import counted, t

ASSETS = Path(__file__).parent.parent / "assets"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ASSETS / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = signed
    environment.filters["span"] = span
    environment.globals["t"] = t
    environment.globals["counted"] = counted
    return environment


HIDDEN: Mapping[str, Any] = {
    "show_progress": "hidden",
    "concurrency_limit": None,
    "api_visibility": "private",
}
"""How every listener of a page is added: no overlay while it works, no queue behind others, no public API
name."""


def news(now: str, last: str) -> tuple[Any, Any]:
    """What a tick gives for a state of what was shown last, and for the place that shows it: nothing where it
    is the same still."""
    return (now, now) if now != last else (gr.skip(), gr.skip())


def render(template: str, **values: object) -> str:
    """Renders one of our templates to HTML; every value is escaped."""
    return _templates().get_template(template).render(**values)


def script(name: str) -> str:
    """The JavaScript of a component (`js_on_load`)."""
    return (ASSETS / name).read_text()


def live(elem_id: str, value: str = "", js: str | None = None) -> gr.HTML:
    """A place on the page that shows rendered HTML; `js` names the script that listens to it, or several that
    follow each other, separated by spaces."""
    scripts = "\n".join(script(name) for name in js.split()) if js else None
    return gr.HTML(value, elem_id=elem_id, js_on_load=scripts, apply_default_css=False)


def sentence(text: str) -> str:
    """A refusal or a notice on the page; nothing when `text` is empty."""
    return render("sentence.html", text=text) if text else ""


def signed(value: float, digits: int = 2) -> str:
    """Writes a number with its sign, a real minus, and no sign at zero."""
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return text
    return ("+" if value > 0 else "−") + text


def span(seconds: float) -> str:
    """Writes a duration as people say it: 1.1 s, 40 s, 6 min, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
