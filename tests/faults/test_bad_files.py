"""Whatever is sent, the answer is a sentence within five seconds, and nothing bad is kept."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import app
from storage import checkpoints
from storage.engine import open_database
from tests.faults.corpus import archives, bases, configs, images, prompts, weights
from tests.faults.corpus.cases import Case, numbered
from tests.faults.doors import Doors, Growth
from tests.storage.ready import ready

CASES = numbered(
    [*images.CASES, *archives.CASES, *weights.CASES, *bases.CASES, *prompts.CASES, *configs.CASES]
)
SECONDS = 5.0
GROWTH = 300 * 2**20
CRASHED = ("Traceback", "The engine could not do this")
FIGURES = os.environ.get("BAD_FILES_FIGURES", "")
"""Where the figures of each case are written, a line each; nowhere by default."""


@pytest.fixture(scope="module")
def doors(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    home = tmp_path_factory.mktemp("bad") / "home"
    app._open(home).close()  # notes the starter, as every command does
    db = open_database(ready(home))
    tiny = checkpoints.register_base(db, name="tiny", source=str(pipeline), family="sdxl")
    opened = Doors(db, tiny)
    warm = opened.try_one("adapter", ("good.safetensors", weights.GOOD))
    assert warm.is_kept, warm.words
    yield opened
    opened.close()
    db.close()


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")  # Pillow says so, and reads on
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_comes_from_outside_is_refused_in_a_sentence_or_written_anew(
    case: Case, doors: Doors, tmp_path: Path
) -> None:
    given = case.make(tmp_path)
    before, growth = doors.stored(), Growth()
    begun = time.monotonic()
    with growth.watched():
        answer = doors.try_one(case.door, given)
    seconds = time.monotonic() - begun
    keep_figure(case, seconds, growth.peak)
    assert seconds <= SECONDS
    assert growth.peak <= GROWTH
    assert not any(one in answer.words for one in CRASHED), answer.words
    assert answer.is_kept == case.is_taken, answer.words
    assert re.search(case.words, answer.words, re.DOTALL | re.IGNORECASE), answer.words
    if case.is_taken:
        written_anew(case, doors, doors.kept_folder(answer) if case.door == "dataset" else None)
    else:
        assert doors.stored() == before
    uploads = [path for path in (doors.db.home / "tmp" / "uploads").iterdir() if any(path.iterdir())]
    assert case.door == "adapter" or not [path for path in uploads if (path / "sent").exists()]


IMAGES = numbered(images.CASES)


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")
@pytest.mark.parametrize("case", IMAGES.values(), ids=list(IMAGES))
def test_an_image_that_is_asked_for_its_settings_is_answered_and_never_kept(
    case: Case, doors: Doors, tmp_path: Path
) -> None:
    before, files, growth = doors.stored(), uploaded(doors), Growth()
    for content in case.make(tmp_path).values():
        begun = time.monotonic()
        with growth.watched():
            answer = doors.try_one("recall", content)
        assert time.monotonic() - begun <= SECONDS
        assert answer.is_kept or answer.words
        assert not any(one in answer.words for one in CRASHED), answer.words
    assert growth.peak <= GROWTH
    assert doors.stored() == before
    assert uploaded(doors) == files


def uploaded(doors: Doors) -> set[Path]:
    """Files that came by an upload, such as an adapter that waits for its review."""
    return {path for path in (doors.db.home / "tmp" / "uploads").rglob("*") if path.is_file()}


def written_anew(case: Case, doors: Doors, folder: Path | None) -> None:
    """What was kept of images is pixels alone."""
    for path in folder.rglob("*.png") if folder else ():
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            assert (image.mode, image.info) == ("RGB", {}), case.name
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


def keep_figure(case: Case, seconds: float, peak: int) -> None:
    if FIGURES:
        with open(FIGURES, "a") as file:
            told = {"door": case.door, "name": case.name, "seconds": seconds, "megabytes": peak / 2**20}
            file.write(json.dumps(told) + "\n")


def test_the_corpus_has_every_door_and_at_least_120_files() -> None:
    assert len(CASES) >= 120
    assert {case.door for case in CASES.values()} == {
        "dataset", "adapter", "base", "prompts", "folder", "run", "form", "command",
    }  # fmt: skip
