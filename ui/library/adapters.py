"""Adapters on their way out to other programs, and in from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowgrpo import programs
from storage import catalog, exports, imports, jobs
from storage.catalog import CheckpointView
from ui.services import Services

_SHOWN_JOBS = 5


@dataclass(frozen=True)
class Format:
    """How one program takes a checkpoint, in the words of the card that lies beside what is exported.

    Attributes:
        program: its name; empty for a whole model, which is no adapter.
        file: what the download is called, or the folder of a whole model.
        folder: where the program looks for it; empty where it may lie anywhere.
        snippet: what loads it.
    """

    program: str
    layout: str
    file: str
    folder: str
    snippet: str


def formats_of(found: CheckpointView) -> list[Format]:
    """What a checkpoint can be exported as, for each program that draws with its base."""
    base, name = found.base, found.row.name
    formats = []
    for one in programs.programs_of(base.family):
        file = exports.file_name(name, one.layout)
        snippet = one.snippet.format(file=file, name=file.removesuffix(".safetensors"))
        if not one.folder:
            snippet = "\n".join(programs.lines(base.family, base.source, file, base.options))
        formats.append(Format(one.name, one.layout, file, one.folder, snippet))
    folder = exports.file_name(name, exports.MERGED)
    whole = "\n".join(programs.merged_lines(base.family, folder))
    return [*formats, Format("", exports.MERGED, folder, "", whole)]


def importing(services: Services) -> dict[str, Any]:
    """The form that takes a file (its route is in `ui.uploads`), and what became of the last ones."""
    return {
        "bases": [(one.row.name, one.own.id) for one in catalog.view_bases(services.db)],
        "work": jobs.recent_jobs(services.db, imports.KIND, _SHOWN_JOBS),
    }
