"""Ratings come in from the formats of others, and what went out comes in as it was."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import func, select
from typer.testing import CliRunner

from app import cli
from flowgrpo.runs.rated import rated_groups
from flowgrpo.runs.ratings_in import import_ratings
from flowgrpo.runs.ratings_out import Ratings, export_ratings
from flowgrpo.sharing import parquet, pickapic
from flowgrpo.sharing.pairs import pairs_of
from storage import ratings, snapshots, users
from storage.engine import Database, open_database
from storage.models import Image, ImageGroup, RatingEvent
from storage.prompts import list_prompt_sets, prompts_of
from tests.runs.opinions import HELD_OUT, Opinions, opinions_in
from tests.storage.ready import ready

Counts = Counter[tuple[Any, ...]]
FORMATS = ("pickapic", "hpd", "imagereward", "trl")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opinions]:
    with opinions_in(tmp_path_factory.mktemp("studio") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def folder(studio: Opinions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_ratings(studio.db, tmp_path_factory.mktemp("out") / "ratings", "all").folder


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Database]:
    db = open_database(ready(tmp_path / "empty"))
    yield db
    db.close()


def pairs(db: Database, *, with_ids: bool = False) -> Counts:
    """Every pair, by prompt and what was said; images by their id, or not at all."""
    found: Counts = Counter()
    for told in Ratings(db).groups():
        for pair in pairs_of(told):
            images = (pair.first.id, pair.second.id) if with_ids else ()
            found[told.prompt, told.split, pair.label, *images] += 1
    return found


def counts(db: Database) -> tuple[int, ...]:
    with db.read() as session:
        return tuple(
            session.scalar(select(func.count()).select_from(kind)) or 0
            for kind in (ImageGroup, Image, RatingEvent)
        )


def test_what_went_out_comes_in_as_the_same_pairs_of_the_same_images(
    studio: Opinions, folder: Path, empty: Database
) -> None:
    done = import_ratings(empty, folder)
    assert pairs(empty, with_ids=True) == pairs(studio.db, with_ids=True)
    assert done.left_out == 1 and done.new.ratings == done.ratings == 18
    first, second = (
        Counter[str](one.status for told in Ratings(db).groups() for one in told.said)
        for db in (studio.db, empty)
    )
    assert second == first - Counter(excluded=1)


def test_importing_twice_adds_nothing_and_neither_does_the_studio_s_own_export(
    studio: Opinions, folder: Path, empty: Database
) -> None:
    import_ratings(empty, folder)
    before = counts(empty)
    again = import_ratings(empty, folder)
    assert (again.new.groups, again.new.ratings) == (0, 0) and counts(empty) == before
    own = counts(studio.db)
    assert import_ratings(studio.db, folder).new.ratings == 0 and counts(studio.db) == own


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_comes_in_with_its_pairs_once(
    form: str, studio: Opinions, folder: Path, empty: Database
) -> None:
    done = import_ratings(empty, folder / form)
    before = counts(empty)
    assert import_ratings(empty, folder / form).new.ratings == 0 and counts(empty) == before
    told = {(prompt, split): said for prompt, split, *said in pairs(empty)}
    assert {key[:2] for key in pairs(studio.db)} == set(told)
    assert done.new.ratings == before[2]
    if form == "pickapic":
        assert pairs(empty) == pairs(studio.db)
    elif form in ("hpd", "trl"):
        decided = Counter({key[:2]: 0 for key in pairs(studio.db)})
        for key, count in pairs(studio.db).items():
            decided[key[:2]] += count if key[2] != 0.5 else 0
        ours = Counter[tuple[Any, ...]]()
        for key, count in pairs(empty).items():
            ours[key[:2]] += count if key[2] != 0.5 else 0
        assert ours == decided


def test_imported_ratings_are_of_outsiders_whom_nobody_can_be(folder: Path, empty: Database) -> None:
    import_ratings(empty, folder / "trl")
    outsiders = [user for user in users.list_users(empty) if user.name.startswith("imported")]
    assert outsiders and not any(user.active or user.password_hash for user in outsiders)
    annotator = users.add_user(empty, "ann", "annotator")
    assert ratings.next_task(empty, annotator.id) is None  # what came in is not asked about here


def test_held_out_prompts_stay_held_out(folder: Path, empty: Database) -> None:
    import_ratings(empty, folder)
    made = next(one for one in list_prompt_sets(empty) if one.name == "imported ratings")
    assert HELD_OUT in [row.text for row in prompts_of(empty, made.id, "held_out")]


def test_a_run_can_learn_from_imported_ratings(folder: Path, empty: Database) -> None:
    import_ratings(empty, folder / "pickapic")
    votes = snapshots.take_snapshot(empty, snapshots.standing_votes(empty))
    learned = rated_groups(empty, votes.id)
    assert len(learned) > 10
    assert all(one.images.shape == (2, 3, 16, 16) for one in learned)
    assert all(bool(torch.isfinite(one.scores).all()) for one in learned)


def bad_rows(**changes: Any) -> list[dict[str, Any]]:
    rows = parquet_row(), parquet_row() | changes
    return [dict(row) for row in rows]


def parquet_row() -> dict[str, Any]:
    import io

    from PIL import Image as Picture

    buffer = io.BytesIO()
    Picture.new("RGB", (16, 16), (9, 9, 9)).save(buffer, "PNG")
    return {"caption": "a cat", "jpg_0": buffer.getvalue(), "jpg_1": buffer.getvalue(), "label_0": 1.0}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"label_0": 0.7}, r"train.parquet, row 2, column label_0: expected 1, 0 or 0.5, got 0.7"),
        ({"label_0": None}, r"row 2, column label_0: expected a number, got nothing"),
        ({"caption": " "}, r"row 2, column caption: expected a text that is not empty"),
        ({"jpg_1": b"no image"}, r"row 2, column jpg_1: the image cannot be read"),
        ({"caption": "x" * 2001}, r"row 2, column prompt or caption: .* shorten it"),
    ],
)  # fmt: skip
def test_a_bad_row_of_a_parquet_is_named_and_nothing_is_kept(
    changes: dict[str, Any], sentence: str, tmp_path: Path, empty: Database
) -> None:
    columns = {name: pickapic.COLUMNS[name] for name in pickapic.NEEDED}
    parquet.write(tmp_path / "train.parquet", columns, bad_rows(**changes))
    with pytest.raises(ValueError, match=sentence):
        import_ratings(empty, tmp_path / "train.parquet")
    assert counts(empty) == (0, 0, 0) and not list((empty.home / "tmp").glob("*.image"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train.json", '[{"prompt": "a", "file_path": ["../a.png", "b.png"], "human_preference": [1, 0]}]',
         "row 1, column file_path: expected the path of an image inside"),
        ("train.json", '[{"prompt": "a", "file_path": ["a.png", "b.png"], "human_preference": [1, 1]}]',
         "column human_preference: expected"),
        ("train.jsonl", '{"prompt": "a", "completion": "a.png", "label": true}',
         "unpaired rows compare nothing"),
        ("train.jsonl", '{"prompt": "a", "chosen": "a.png", "rejected": "b.png"}', "there is no image a.png"),
        ("train.jsonl", "{", "row 1: this is not JSON"),
        ("train.parquet", "PAR1 no PAR1", "no whole Parquet file"),
        ("train.csv", "prompt", "of no known format"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_in_a_sentence(
    name: str, content: str, sentence: str, tmp_path: Path, empty: Database
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        import_ratings(empty, tmp_path / name)
    assert counts(empty) == (0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "likes"}, "column kind: expected stars, best"),
        ({"id": "1"}, "column id: expected an id"),
        ({"schema_version": 2}, "column schema_version: expected at most 1"),
        ({"image": "01990000-0000-7000-8000-000000000000"}, "column image: expected images of the group"),
        ({"annotator": "a b"}, "column annotator: expected a hash"),
        ({"supersedes": "01990000-0000-7000-8000-000000000000"}, "the id of an earlier line"),
    ],
)
def test_a_bad_line_of_raw_votes_is_named(
    changes: dict[str, Any], sentence: str, folder: Path, tmp_path: Path, empty: Database
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    first, *rest = (copy / "votes.jsonl").read_text(encoding="utf-8").splitlines()
    votes = [json.dumps(json.loads(first) | changes), *rest]
    (copy / "votes.jsonl").write_text("\n".join(votes), encoding="utf-8")
    with pytest.raises(ValueError, match=f"votes.jsonl, row 1, .*{sentence}"):
        import_ratings(empty, copy)
    assert counts(empty) == (0, 0, 0)


def test_the_commands_say_what_they_did(studio: Opinions, tmp_path: Path, empty: Database) -> None:
    out = str(tmp_path / "out")
    made = CliRunner().invoke(cli, ["export-ratings", out, "--format", "raw", "--home", str(studio.db.home)])
    assert made.exit_code == 0 and "Fill in the licence" in made.stdout and "1 rated groups" in made.stdout
    came = CliRunner().invoke(cli, ["import-ratings", out, "--home", str(empty.home)])
    assert came.exit_code == 0 and "new: 6 groups, 18 ratings" in came.stdout
    gone = CliRunner().invoke(cli, ["import-ratings", f"{out}/none", "--home", str(empty.home)])
    assert gone.exit_code == 2 and "expected a folder that export-ratings wrote" in gone.output
