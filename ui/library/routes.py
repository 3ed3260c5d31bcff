"""Files that the Library gives: prompt sets as text."""

from __future__ import annotations

import re
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Response

from storage import prompts
from storage.engine import Database
from storage.models import Split
from ui.prompt_files import Kind, Line
from ui.prompt_writing import written

SPLITS: tuple[Split, ...] = ("train", "held_out")
_TYPES: dict[str, tuple[Kind, str]] = {
    "txt": ("txt", "text/plain; charset=utf-8"),
    "csv": ("csv", "text/csv; charset=utf-8"),
    "jsonl": ("jsonl", "application/jsonl; charset=utf-8"),
}


def library_routes(db: Database) -> APIRouter:
    """GET /library/prompts/{id}.txt, .csv or .jsonl: training prompts first, each with its split and what
    stands beside it; imported, it is the same set again. A .txt says in a comment what it cannot hold.
    """
    router = APIRouter()

    @router.get("/library/prompts/{set_id}.{ending}")
    def prompt_set(set_id: str, ending: str) -> Response:
        if ending not in _TYPES:
            raise HTTPException(404, "A prompt set comes as .txt, .csv or .jsonl.")
        try:
            row = prompts.get_prompt_set(db, set_id).row
            lines = lines_of(db, set_id)
        except LookupError as error:
            raise HTTPException(404, "There is no prompt set with this id: reload the page.") from error
        kind, media_type = _TYPES[ending]
        return Response(
            written(lines, kind),
            media_type=media_type,
            headers={"Content-Disposition": _attachment(f"{row.name}-{row.version}.{ending}")},
        )

    return router


def lines_of(db: Database, set_id: str) -> list[Line]:
    """A version of a set as a list, training prompts first; LookupError where there is none."""
    return [
        Line(0, one.text, one.split, one.attributes or {})
        for split in SPLITS
        for one in prompts.prompts_of(db, set_id, split)
    ]


def _attachment(name: str) -> str:
    """A header that suggests a file name, whatever letters it has (RFC 6266)."""
    plain = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
