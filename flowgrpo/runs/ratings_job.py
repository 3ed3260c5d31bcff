"""Ratings by page: the job "ratings_out" writes what `export-ratings` does as one .zip, and the job
"ratings_in" reads an upload as `import-ratings` does.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any, Final

from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.ratings_in import import_ratings
from flowgrpo.runs.ratings_out import Exported, export_ratings
from storage import imports, quotas
from storage.disk import sync
from storage.errors import NotSavedError
from storage.partials import partial_of
from storage.ratings_files import note_ratings_file, place_of

_PACKED: Final = (".json", ".jsonl", ".md", ".csv")
"""What packing makes smaller; images and Parquet are packed already."""


def ratings_job(bench: Bench) -> dict[str, Any]:
    """Writes the archive into the data folder; returns what is in it.

    Raises what `Bench.tick` raises, and ValueError with a sentence for who asked.
    """
    place = place_of(bench.db.home, bench.job.id)
    place.parent.mkdir(exist_ok=True)
    quotas.check_room(bench.db)
    with partial_of(place.with_suffix(""), is_folder=True) as work:
        done = export_ratings(
            bench.db, work / "ratings", bench.job.payload["format"], lambda what: bench.tick(what, 0, 0)
        )
        _pack(bench, done.folder, place)
    facts = done.facts
    note_ratings_file(bench.db, bench.job, facts.pairs.total())
    return _told(done)


def _told(done: Exported) -> dict[str, Any]:
    facts = done.facts
    return {
        "groups": facts.groups,
        "images": facts.images,
        "pairs": facts.pairs.total(),
        "events": facts.events.total(),
        "people": len(facts.annotators),
        "missing": facts.missing,
    }


def _pack(bench: Bench, folder: Path, place: Path) -> None:
    """All of the folder under its own name, or nothing."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    quotas.check_room(bench.db, sum(path.stat().st_size for path in files))
    try:
        with partial_of(place) as partial:
            with zipfile.ZipFile(partial, "w") as archive:
                for number, path in enumerate(files):
                    bench.tick("packing", number, len(files))
                    is_packed = path.suffix in _PACKED
                    way = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
                    archive.write(path, path.relative_to(folder.parent), way)
            sync(partial)
            partial.replace(place)
    except OSError as error:
        raise NotSavedError(
            f"The ratings were not packed ({error}): free some space, then try again."
        ) from error
    sync(place.parent)


def ratings_in_job(bench: Bench) -> dict[str, Any]:
    """Takes the uploaded ratings over, and removes them; returns what they have and what was new.

    Raises what `Bench.tick` raises, and ValueError or LookupError with a sentence for who asked. Then the
    upload stays for a day.
    """
    folder = imports.uploaded_folder(bench.db, bench.job.payload["file"])
    done = import_ratings(
        bench.db, _source_in(folder), by=bench.job.created_by, tell=lambda what: bench.tick(what, 0, 0)
    )
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "groups": done.groups,
        "ratings": done.ratings,
        "new_groups": done.new.groups,
        "new_ratings": done.new.ratings,
        "left_out": done.left_out,
    }


def _source_in(folder: Path) -> Path:
    """The one file or folder that an archive has, however deep, else the folder itself."""
    found = list(folder.iterdir())
    while len(found) == 1 and found[0].is_dir():
        folder, found = found[0], list(found[0].iterdir())
    return found[0] if len(found) == 1 else folder
