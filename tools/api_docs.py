"""Writes docs/api.md from the code: functions, library, addresses, commands.

python -m tools.api_docs
"""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import gradio as gr
import typer

from app import cli
from storage.engine import open_database
from tools import library_docs
from ui import api
from ui.roles import MAY, ROUTES, need_of
from ui.services import Services

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "api.md"
_HEAD = """# API

Written by `python -m tools.api_docs` from the code, and a test compares the two: change the docstrings,
not this page.

## Functions

Everything that scripts need, by names that stay. From Python, with `gradio_client`; a studio with accounts
wants a token of yours, from the page Account, and one without lets this machine in:

```python
from gradio_client import Client

studio = Client("http://127.0.0.1:7860", headers={"Authorization": "Bearer YOUR-TOKEN"})
checkpoint = studio.predict(api_name="/list_checkpoints")[0]["id"]
group = studio.predict("a portrait, red hair", checkpoint, 4, api_name="/generate_group")
```

From a shell, with the arguments in their order as JSON:

```
curl http://127.0.0.1:7860/gradio_api/run/get_group \\
  -H "Content-Type: application/json" -H "Authorization: Bearer YOUR-TOKEN" -d '{"data": ["GROUP-ID"]}'
```

A request that cannot be done comes back as an error whose text is a sentence. What takes long is queued: the
answer has an id, and asking with it tells how far it is.
"""
_ROUTES = """## Addresses

Of the server, as patterns; the first that matches holds. *open*: to everybody. *nobody*: Gradio has it, and
the studio answers 404.

| address | for |
|---|---|
"""
_COMMANDS = """## Commands

`python app.py COMMAND --help` says the same. Settings of the environment stand in the
[README](../README.md#commands).
"""


def page() -> str:
    """The whole page."""
    routes = _ROUTES + "\n".join(addresses()) + "\n"
    return "\n".join([_HEAD, *functions(), library_docs.HEAD, *library(), routes, _COMMANDS, *commands()])


def functions() -> Iterator[str]:
    """A part for each function of the API, in the order in which they are added."""
    with tempfile.TemporaryDirectory() as home:
        db = open_database(Path(home))
        with gr.Blocks() as blocks:
            api.add(Services(db))
        for fn in (one.fn for one in blocks.fns.values()):
            if fn is not None:
                yield function(fn)
        db.close()


def function(fn: Any) -> str:
    """One function: how it is called, who may, what it does."""
    given = [one for one in inspect.signature(fn).parameters.values() if one.name != "request"]
    words = ", ".join(str(one.replace(annotation=_Words(one.annotation))) for one in given)
    head = [f"### {fn.__name__}", "", "```python", f"{fn.__name__}({words})", "```", ""]
    return "\n".join(
        [*head, f"For: {', '.join(MAY[need_of(fn)])}.", "", *markdown(inspect.getdoc(fn) or ""), ""]
    )


class _Words(str):
    """A type that stands in a signature without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def markdown(docstring: str) -> Iterator[str]:
    """A docstring's paragraphs, with its arguments as a list."""
    section = ""
    for line in docstring.splitlines():
        if found := re.fullmatch(r"(Args|Returns|Raises|Attributes):", line):
            section = found[1]
            if section != "Args":
                yield f"{section}:"
                yield ""
        elif section and (item := re.fullmatch(r" {4}([\w, ]+): (.*)", line)):
            yield f"- {', '.join(f'`{name}`' for name in item[1].split(', '))}: {item[2]}"
        elif section and line.startswith("        "):
            yield f"  {line.strip()}"
        else:
            yield line.strip() if section else line


def library() -> Iterator[str]:
    """A part for each name of the library that the page tells of."""
    for name, code, said in library_docs.library():
        yield "\n".join([f"### {name}", "", "```python", code, "```", "", *markdown(said), ""])


def addresses() -> Iterator[str]:
    """A row for each pattern of `ui.roles.ROUTES`."""
    for pattern, need in ROUTES:
        escaped = pattern.replace("|", "\\|")
        who = {"open": "*open*", "nobody": "*nobody*"}.get(need) or ", ".join(MAY[need])  # type: ignore[index]
        yield f"| `{escaped}` | {who} |"


def commands() -> Iterator[str]:
    """A part for each command, and for each of a command's own."""
    yield from parts(typer.main.get_command(cli), "python app.py")


def parts(command: Any, name: str) -> Iterator[str]:
    """A command's own part, then those of the commands below it."""
    below = command.list_commands(None) if hasattr(command, "list_commands") else []
    arguments = [one.name.upper() for one in command.params if one.param_type_name == "argument"]
    yield f"### `{' '.join([name, *arguments])}`\n"
    if command.help:
        yield inspect.cleandoc(command.help) + "\n"
    if rows := [option(one) for one in command.params if one.name != "help"]:
        yield "| option | what | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    for word in below:
        yield from parts(command.get_command(None, word), f"{name} {word}")


def option(one: Any) -> str:
    """A row of a command's table."""
    names = [one.name.upper()] if one.param_type_name == "argument" else [*one.opts, *one.secondary_opts]
    default = "" if one.default in (None, False, ()) or callable(one.default) else f"`{one.default}`"
    what = (one.help or "").replace("|", "\\|")
    return f"| {', '.join(f'`{name}`' for name in names)} | {what} | {default} |"


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
