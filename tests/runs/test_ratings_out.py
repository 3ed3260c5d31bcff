"""Ratings go out in the formats of others: tests read the files by what defines a format, not by ours."""

from __future__ import annotations

import io
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from arro3.core import RecordBatch
from arro3.io import read_parquet
from PIL import Image

from flowgrpo.runs.ratings_out import Exported, export_ratings
from flowgrpo.sharing import pickapic
from flowgrpo.sharing.told import split_of
from storage.engine import Database
from storage.errors import NotSavedError
from storage.lookup import prompt_hash
from tests.runs.opinions import HELD_OUT, NAMES, Opinions, files_below, opinions_in

SPLITS = ("train", "validation", "test")
PICKAPIC = {
    "are_different": "Boolean", "best_image_uid": "Utf8", "caption": "Utf8", "created_at": "Timestamp(ns)",
    "has_label": "Boolean", "image_0_uid": "Utf8", "image_0_url": "Utf8", "image_1_uid": "Utf8",
    "image_1_url": "Utf8", "jpg_0": "Binary", "jpg_1": "Binary", "label_0": "Float64", "label_1": "Float64",
    "model_0": "Utf8", "model_1": "Utf8", "ranking_id": "Int64", "user_id": "Int64",
    "num_example_per_prompt": "Int64",
}  # fmt: skip
"""Of the card of yuvalkirstain/pickapic_v2, without the index that pandas added."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opinions]:
    with opinions_in(tmp_path_factory.mktemp("studio") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def exported(studio: Opinions, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_ratings(studio.db, tmp_path_factory.mktemp("out") / "ratings", "all")


@pytest.fixture(scope="module")
def folder(exported: Exported) -> Path:
    return exported.folder


def table(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for batch in read_parquet(str(path)):
        whole = RecordBatch.from_arrow(batch)
        columns = {
            name: [whole[name][place].as_py() for place in range(whole.num_rows)]
            for name in whole.schema.names
        }
        rows += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pick(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {split: table(folder / "pickapic" / f"{split}.parquet") for split in SPLITS}


def test_a_pick_a_pic_file_has_the_columns_and_types_of_its_second_version(folder: Path) -> None:
    for split in SPLITS:
        schema = read_parquet(str(folder / "pickapic" / f"{split}.parquet")).schema
        assert {name: _type(str(schema.field(name).type)) for name in schema.names} == PICKAPIC
        assert list(schema.names) == list(PICKAPIC)


def _type(said: str) -> str:
    return said.removeprefix("arro3.core.DataType<").strip().removesuffix(">")


def test_every_row_of_pick_a_pic_says_one_thing_in_all_its_columns(folder: Path) -> None:
    for rows in pick(folder).values():
        counts = Counter(row["caption"] for row in rows)
        for row in rows:
            assert (row["label_0"], row["label_1"]) in {(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)}
            best = {1.0: row["image_0_uid"], 0.0: row["image_1_uid"], 0.5: "tie"}[row["label_0"]]
            assert row["best_image_uid"] == best
            assert row["image_0_uid"] != row["image_1_uid"]
            assert row["has_label"] and row["are_different"]
            assert row["num_example_per_prompt"] == counts[row["caption"]]
            assert isinstance(row["created_at"], datetime)
            for place in (0, 1):
                jpeg = Image.open(io.BytesIO(row[f"jpg_{place}"]))
                assert (jpeg.format, jpeg.mode, jpeg.size) == ("JPEG", "RGB", (16, 16))
                assert b"secret" not in row[f"jpg_{place}"]
                assert (folder / row[f"image_{place}_url"]).is_file()


def test_the_jpegs_have_the_quality_that_is_promised(folder: Path) -> None:
    jpeg = Image.open(io.BytesIO(pick(folder)["train"][0]["jpg_0"]))
    again = io.BytesIO()
    Image.new("RGB", (16, 16)).save(again, "JPEG", quality=95)
    assert vars(jpeg)["quantization"] == vars(Image.open(again))["quantization"]


def test_each_judgement_is_counted_once_and_only_if_it_stands(studio: Opinions, folder: Path) -> None:
    found = {name: said_of(studio, folder, name) for name in studio.groups}
    best = {(0, 1): 0.0, (1, 2): 1.0, (1, 3): 1.0, (0, 3): 1.0, (2, 3): 1.0}
    other = {(0, 2): 0.0, (1, 2): 0.0, (2, 3): 1.0}
    assert found["best"] == Counter([*best.items(), *other.items()])
    assert found["pairs"] == Counter({((1, 0), 1.0): 2, ((2, 3), 0.5): 1})
    rank = {(0, 1): 0.5, (0, 2): 0.0, (0, 3): 1.0, (1, 2): 0.0, (1, 3): 1.0, (2, 3): 1.0}
    assert found["rank"] == Counter(rank.items())
    stars = {(0, 1): 1.0, (0, 2): 1.0, (0, 3): 1.0, (1, 3): 1.0, (2, 3): 1.0}
    assert found["stars"] == Counter(stars.items())
    assert len(found["held out"]) > 0 and found["held out"].total() == 12
    assert found["no pairs"] == found["files gone"] == Counter()


def said_of(studio: Opinions, folder: Path, name: str) -> Counter[tuple[tuple[int, int], float]]:
    places = {one.image.id: one.image.index for one in studio.groups[name].images}
    rows = [row for rows in pick(folder).values() for row in rows if row["image_0_uid"] in places]
    return Counter(((places[row["image_0_uid"]], places[row["image_1_uid"]]), row["label_0"]) for row in rows)


def test_no_prompt_is_in_two_splits_and_what_is_held_out_is_in_test(studio: Opinions, folder: Path) -> None:
    captions = {split: {row["caption"] for row in rows} for split, rows in pick(folder).items()}
    assert HELD_OUT in captions["test"]
    assert all(captions[split] for split in SPLITS)
    assert not captions["train"] & captions["validation"] | captions["train"] & captions["test"]
    assert not captions["validation"] & captions["test"]
    for split, texts in studio.prompts.items():
        for text in texts:
            assert split_of(prompt_hash(f"  {text.upper()}\n"), set()) == split


def dpo_batch(rows: list[dict[str, Any]], side: int = 8) -> tuple[torch.Tensor, list[str]]:
    """Diffusion-DPO's rules for columns: no ties; both images in one tensor of six channels, best first."""
    decided = [row for row in rows if row["label_0"] in (0, 1)]
    pixels = []
    for row in decided:
        images = [
            Image.open(io.BytesIO(row[name])).convert("RGB").resize((side, side))
            for name in ("jpg_0", "jpg_1")
        ]
        both = [torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1 for image in images]
        if not row["label_0"]:
            both.reverse()
        pixels.append(torch.cat(both))
    return torch.stack(pixels), [row["caption"] for row in decided]


def test_a_training_step_of_diffusion_dpo_reads_the_export_as_it_is(studio: Opinions, folder: Path) -> None:
    rows = pick(folder)["test"]
    batch, captions = dpo_batch(rows)
    assert batch.shape == (5 + 12, 6, 8, 8) and batch.dtype == torch.float32
    assert len(captions) == 17 and captions.count(HELD_OUT) == 12
    best = studio.groups["stars"].images[0]
    shown = Image.open(io.BytesIO(next(row for row in rows if row["image_0_uid"] == best.image.id)["jpg_0"]))
    winner = batch[[text != HELD_OUT for text in captions]][:3, :3]
    expected = np.array(shown).mean(axis=(0, 1)) / 127.5 - 1
    assert np.allclose(winner.mean(dim=(2, 3)), expected, atol=0.02)
    batch.requires_grad_().square().mean().backward()
    assert batch.grad is not None and bool(batch.grad.isfinite().all())


def test_hpd_trains_with_pairs_and_tests_with_whole_rankings(studio: Opinions, folder: Path) -> None:
    for split in ("train", "validation"):
        for row in json.loads((folder / "hpd" / f"{split}.json").read_text(encoding="utf-8")):
            assert set(row) == {"prompt", "file_path", "human_preference"}
            assert len(row["file_path"]) == 2 and sorted(row["human_preference"]) == [0, 1]
            assert all((folder / path).is_file() for path in row["file_path"])
    rows = json.loads((folder / "hpd" / "test.json").read_text(encoding="utf-8"))
    for row in rows:
        assert set(row) == {"prompt", "image_path", "rank", "raw_annotations"}
        assert len(row["image_path"]) == len(row["rank"]) and min(row["rank"]) == 1
        for one in row["raw_annotations"]:
            assert set(one) == {"rank", "user_hash"} and len(one["rank"]) == len(row["rank"])
    held_out = next(row for row in rows if row["prompt"] == HELD_OUT)
    assert [one["rank"] for one in held_out["raw_annotations"]] == [[4, 2, 3, 1], [3, 2, 4, 1]]
    assert held_out["rank"] == [3, 2, 3, 1]
    stars = next(row for row in rows if row["prompt"] != HELD_OUT)
    assert stars["rank"] == [1, 2, 2, 4]


def test_image_reward_rows_rank_and_rate_what_one_person_saw(studio: Opinions, folder: Path) -> None:
    columns = {
        "image_path", "prompt_id", "prompt", "classification", "image_amount_in_total", "rank",
        "overall_rating", "image_text_alignment_rating", "fidelity_rating",
    }  # fmt: skip
    for split in SPLITS:
        rows = json.loads((folder / "imagereward" / f"{split}.json").read_text(encoding="utf-8"))
        seen = Counter(row["prompt_id"] for row in rows)
        for row in rows:
            assert set(row) == columns
            assert 1 <= row["rank"] <= row["image_amount_in_total"] == seen[row["prompt_id"]]
            assert row["overall_rating"] is None or row["overall_rating"] in range(1, 8)
            assert row["image_text_alignment_rating"] is row["fidelity_rating"] is None
            assert (folder / row["image_path"]).is_file()
    rated = [row for row in rows if row["prompt"] != HELD_OUT]
    assert [row["overall_rating"] for row in rated] == [7, 4, 4, 1]


def test_trl_has_pairs_and_single_images(studio: Opinions, folder: Path) -> None:
    for split in SPLITS:
        ties = sum(row["label_0"] == 0.5 for row in pick(folder)[split])
        rows = lines(folder / "trl" / f"{split}.jsonl")
        assert len(rows) == len(pick(folder)[split]) - ties
        for row in rows:
            assert set(row) == {"prompt", "chosen", "rejected"} and row["chosen"] != row["rejected"]
            assert (folder / row["chosen"]).is_file() and (folder / row["rejected"]).is_file()
        for row in lines(folder / "trl" / f"{split}_unpaired.jsonl"):
            assert set(row) == {"prompt", "completion", "label"} and type(row["label"]) is bool
    single = [row for row in lines(folder / "trl" / "test_unpaired.jsonl") if row["prompt"] != HELD_OUT]
    images = [one.image.id for one in studio.groups["stars"].images]
    assert [(row["completion"].split("/")[-1], row["label"]) for row in single] == [
        (f"{images[0]}.png", True), (f"{images[3]}.png", False),
    ]  # fmt: skip


def test_the_raw_votes_leave_nothing_out_and_say_what_became_of_each(studio: Opinions, folder: Path) -> None:
    votes = lines(folder / "votes.jsonl")
    with sqlite3.connect(studio.db.home / "app.db") as rows:
        gone = studio.groups["files gone"].group.id
        expected = {
            one for (one,) in rows.execute("SELECT id FROM rating_event WHERE group_id <> ?", (gone,))
        }
    assert {vote["id"] for vote in votes} == expected and len(votes) == len(expected)
    assert Counter(vote["status"] for vote in votes) == Counter(
        stands=14, superseded=2, undone=1, undo=1, excluded=1
    )
    for vote in votes:
        assert vote["schema_version"] == 1 and vote["app_version"]
        assert len(vote["annotator"]) == 16 and int(vote["annotator"], 16) >= 0
        assert vote["is_blind"] is (True if vote["lead_ms"] else None)
        assert datetime.fromisoformat(vote["at"]).tzinfo is not None
    pair = next(vote for vote in votes if vote["kind"] == "pair")
    shown = [one.image.id for one in studio.groups["pairs"].images]
    assert (pair["payload"]["left"], pair["payload"]["right"]) == (shown[1], shown[0])
    assert pair["images"] == shown


def test_images_go_out_as_pixels_alone_and_each_is_listed(folder: Path) -> None:
    listed = table(folder / "images.parquet")
    assert {row["file"] for row in listed} == {
        one for one in files_below(folder) if one.startswith("images/")
    }
    for row in listed:
        data = (folder / row["file"]).read_bytes()
        assert b"secret" not in data and Image.open(io.BytesIO(data)).size == (row["width"], row["height"])
        assert json.loads(row["config"])["num_steps"] == 8 and row["model"] == "starter"


def test_no_file_of_an_export_has_a_name_of_a_person(studio: Opinions, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [name for name in (*NAMES, *studio.people) if name.encode() in data], path
            assert path.suffix == ".png" or b"secret parameters" not in data


def test_the_card_names_every_file_of_a_split_and_what_is_missing(exported: Exported) -> None:
    text = (exported.folder / "README.md").read_text(encoding="utf-8")
    head = text.split("---\n")[1]
    named = [line.split()[-1] for line in head.splitlines() if "path:" in line]
    formats = {
        one for one in files_below(exported.folder) if one.count("/") == 1 and not one.startswith("images/")
    }
    assert set(named) == {*formats, "images.parquet"}
    assert (
        "license: other" in head and "- config_name: pickapic" in head and "- config_name: hpd_test" in head
    )
    assert "1 groups whose image files are gone" in text
    assert "they said the same in" in text and "2 of the pairs are ties" in text


def test_an_export_is_the_same_the_next_time(studio: Opinions, exported: Exported, tmp_path: Path) -> None:
    again = export_ratings(studio.db, tmp_path / "again", "all").folder
    assert files_below(again) == files_below(exported.folder)
    for name in files_below(again):
        assert (again / name).read_bytes() == (exported.folder / name).read_bytes(), name


def test_an_export_that_breaks_off_leaves_nothing(
    studio: Opinions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(shown: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pickapic, "jpeg", full)
    with pytest.raises(NotSavedError, match="No ratings were exported"):
        export_ratings(studio.db, tmp_path / "ratings", "pickapic")
    assert [path.name for path in tmp_path.iterdir() if "ratings" in path.name] == []


def test_a_folder_that_is_there_and_a_format_that_is_not_are_refused(
    studio: Opinions, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="choose a folder that is not there yet"):
        export_ratings(studio.db, tmp_path, "all")
    with pytest.raises(ValueError, match="a format is pickapic, hpd"):
        export_ratings(studio.db, tmp_path / "new", "csv")


def test_a_studio_without_ratings_has_nothing_to_export(db: Database, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rate some groups first"):
        export_ratings(db, tmp_path / "out", "raw")
