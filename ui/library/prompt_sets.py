"""Prompt sets: the list, one version with what changed, and the forms that make a new version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storage import prompts
from storage.engine import Database
from storage.models import PromptRecord, PromptSet, User
from storage.prompts import SetView
from ui import forms, prompt_files
from ui.forms import Refused
from ui.language import t
from ui.library.shelf import Done, Fields, Query, Tab, text_of
from ui.prompt_files import DEFAULT_SHARE, MAX_BYTES, Line, Reading
from ui.services import Services

SHOWN = 200
"""Prompts of each split on the page; the download has all."""
EXAMPLES = 6
"""Prompts of each split in the preview of a list."""
MAX_NAME = 80
MAX_SHARE = 90
"""Percent that can be held out."""


def view(services: Services, query: Query) -> dict[str, Any]:
    """The list, one set, or one of the two forms."""
    if query.get("new"):
        return {"shows": "new", "share": DEFAULT_SHARE, "most": MAX_BYTES, "names": _names(services)}
    if query.get("set"):
        found = _found(services, query["set"])
        return _edited(services, found) if query.get("edit") else _one(services, found, query)
    sets = prompts.view_prompt_sets(services.db)
    runs = {one.row.name: len(prompts.runs_of_set(services.db, one.row.name)) for one in sets}
    return {"shows": "list", "sets": sets, "runs": runs}


def _names(services: Services) -> list[str]:
    return [row.name for row in prompts.list_prompt_sets(services.db)]


def _found(services: Services, set_id: str) -> SetView:
    try:
        return prompts.get_prompt_set(services.db, set_id)
    except LookupError as error:
        raise Refused("There is no prompt set with this id: choose one from the list.") from error


def _one(services: Services, found: SetView, query: Query) -> dict[str, Any]:
    train, held_out = _rows(services, found)
    older = _older(found, query.get("versus", ""))
    return {
        "shows": "set",
        "set": found,
        "splits": [("train", train[:SHOWN], len(train)), ("held_out", held_out[:SHOWN], len(held_out))],
        "older": older,
        "change": prompts.difference(services.db, older.id, found.row.id) if older else None,
        "runs": prompts.runs_of_set(services.db, found.row.name),
        "beside": beside,
    }


def _older(found: SetView, wanted: str) -> Any:
    """The version that this one is held against: the one asked for, else the one before it."""
    asked = next((row for row in found.versions if row.id == wanted and row.id != found.row.id), None)
    before = (row for row in found.versions if row.version < found.row.version)
    return asked or next(before, None)


def _rows(services: Services, found: SetView) -> tuple[list[PromptRecord], list[PromptRecord]]:
    train = prompts.prompts_of(services.db, found.row.id, "train")
    return train, prompts.prompts_of(services.db, found.row.id, "held_out")


def _edited(services: Services, found: SetView) -> dict[str, Any]:
    train, held_out = (_text(rows) for rows in _rows(services, found))
    if len((train + held_out).encode()) > MAX_BYTES:
        raise Refused(
            f"{found.row.name} is too long to be changed in the browser: download it, change the file, and "
            "import it under the same name."
        )
    return {"shows": "edit", "set": found, "train": train, "held_out": held_out}


def _text(rows: Sequence[PromptRecord]) -> str:
    return "".join(" ".join(row.text.split()) + "\n" for row in rows)


def beside(attributes: Mapping[str, Any] | None) -> str:
    """What stands beside a prompt, in short."""
    words = ", ".join(f"{name} {value}" for name, value in (attributes or {}).items())
    return words if len(words) <= 120 else f"{words[:119]}…"


# What can be done


def import_list(services: Services, person: User, fields: Fields) -> Done:
    """Reads a list and shows what it would be, or keeps it as a new set or version."""
    reading = prompt_files.read(_raw(fields, "text"), text_of(fields, "file"))
    train, held_out = _divided(services, reading, fields)
    if text_of(fields, "way") == "preview":
        return Done(preview=("library/preview.html", _preview(reading, train, held_out)))
    return _keep(services, text_of(fields, "name"), train, held_out, reading.notes)


def _raw(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _divided(services: Services, reading: Reading, fields: Fields) -> tuple[list[Line], list[Line]]:
    """By the list's own column, or by a share."""
    if text_of(fields, "by") == "list":
        if not reading.has_splits:
            raise Refused(
                "The list does not say which prompts are held out: give it a column split with train or "
                "held_out, or hold out a share."
            )
        train, held_out = prompt_files.as_the_list_says(reading.lines)
    else:
        share = forms.whole(text_of(fields, "share") or "0", "The held-out share", 0, MAX_SHARE)
        before = held_before(services.db, " ".join(text_of(fields, "name").split()))
        train, held_out = prompt_files.divided(reading.lines, share / 100, before)
    if not train:
        raise Refused("All prompts would be held out: leave at least one to train on.")
    return train, held_out


def held_before(db: Database, name: str) -> set[str]:
    """Hashes of what the newest version of a set holds out."""
    newest = next(iter(prompts.versions_of(db, name)), None)
    if newest is None:
        return set()
    return {row.text_hash for row in prompts.prompts_of(db, newest.id, "held_out")}


def _preview(reading: Reading, train: Sequence[Line], held_out: Sequence[Line]) -> dict[str, Any]:
    splits = [(name, rows[:EXAMPLES], len(rows)) for name, rows in (("train", train), ("held_out", held_out))]
    return {"kind": reading.kind, "notes": reading.notes, "splits": splits, "beside": beside}


def _keep(
    services: Services, name: str, train: Sequence[Line], held_out: Sequence[Line], notes: Sequence[str] = ()
) -> Done:
    name = checked_name(name)
    before = next(iter(prompts.versions_of(services.db, name)), None)
    made = kept(services.db, name, train, held_out)
    where = {"tab": "prompts", "set": made.id}
    if before is not None and before.id == made.id:
        return Done(" ".join([t("library.prompts_same", name=name, version=made.version), *notes]), where)
    words = t(
        "library.prompts_saved", name=name, version=made.version, train=len(train), held_out=len(held_out)
    )
    return Done(" ".join([words, *notes]), where)


def kept(db: Database, name: str, train: Sequence[Line], held_out: Sequence[Line]) -> PromptSet:
    """The newest version of a set where it says exactly this, else a new one; raises as `save_prompt_set`."""
    attributes = {line.text: line.attributes for line in (*train, *held_out) if line.attributes}
    texts, held = ([line.text for line in some] for some in (train, held_out))
    return prompts.save_prompt_set(db, name, texts, held, attributes)


def checked_name(name: str) -> str:
    """One line, not empty; raises `Refused`."""
    name = " ".join(name.split())
    if not name:
        raise Refused("The prompt set has no name: give it one; an existing name makes a new version of it.")
    if len(name) > MAX_NAME:
        raise Refused(f"The name has {len(name)} characters: shorten it to {MAX_NAME}.")
    return name


def edit(services: Services, person: User, fields: Fields) -> Done:
    """Keeps both splits of a set as they stand in the form, as a new version."""
    found = _found(services, text_of(fields, "set"))
    if not found.is_newest:
        raise Refused(
            f"Meanwhile there is version {found.versions[0].version} of {found.row.name}: open that one, and "
            "change it there."
        )
    known = {row.text: row.attributes or {} for rows in _rows(services, found) for row in rows}
    notes: list[str] = []
    splits = [_typed(_raw(fields, name), known, notes) for name in ("train", "held_out")]
    return _keep(services, found.row.name, splits[0], splits[1], notes)


def _typed(text: str, known: Mapping[str, Mapping[str, Any]], notes: list[str]) -> list[Line]:
    """A line each; what stood beside a prompt stays with it."""
    if not text.strip():
        return []
    reading = prompt_files.read(text, "list.txt")
    notes += reading.notes
    return [
        Line(line.number, line.text, None, {**known.get(line.text, {}), **line.attributes})
        for line in reading.lines
    ]


TAB = Tab("prompts", view, {"import": import_list, "edit": edit})
