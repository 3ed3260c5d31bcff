from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from flowgrpo.config import DEFAULT_WEIGHTS, RolloutConfig, RunConfig
from flowgrpo.runs.demo import DemoSettings, main, run_demo
from flowgrpo.runs.sheet import Block, Strip, before_after
from storage import evaluations, groups, runs
from storage.checkpoints import list_checkpoints
from storage.engine import open_database
from tests.storage.ready import ready
from tests.tiny import tiny_sdxl
from tests.untrained import untrained_rewards


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demonstration_goes_through_rows_worker_and_run(tmp_path: Path) -> None:
    weights = untrained_rewards(tmp_path / "weights")
    tiny_sdxl(weights / "pipeline")
    config = RunConfig(
        prompts=("portrait, red hair", "portrait, blue hair"),
        reward_weights=DEFAULT_WEIGHTS,
        num_updates=1,
        samples=0,
        rollout=RolloutConfig(group_size=4, groups_per_update=1, num_steps=3, window_size=1),
    )
    settings = DemoSettings(num_prompts=3, num_seeds=2, num_groups=1, num_reference=16, seed=3)
    report = run_demo(tmp_path / "home", tmp_path / "out", settings=settings, weights=weights, config=config)

    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    metrics = {metric["metric"]: metric for metric in report["metrics"]}
    assert {"judge", "judge/mouth", "clip", "quality", "diversity", "kid@efflite0"} <= set(metrics)
    assert all({"base", "tuned", "difference", "low", "high"} <= set(metric) for metric in metrics.values())
    assert sum(report["phases_seconds"].values()) == pytest.approx(report["seconds"], rel=0.1, abs=5)
    with Image.open(tmp_path / "out" / "before-after.png") as picture:
        assert picture.width > 600

    db = open_database(tmp_path / "home")
    (run,) = runs.list_runs(db)
    assert run.state == "completed"
    assert run.config["seed"] == report["seed"] == 3
    kinds = [view.group.kind for view in groups.recent_groups(db, kinds=("demo", "evaluation"), limit=50)]
    assert kinds.count("evaluation") == 2 * 3
    assert kinds.count("demo") == 1
    tuned = list_checkpoints(db)[-1]
    assert "judge" in {row.metric for row in evaluations.evaluations_of(db, tuned.id)}
    db.close()


def test_a_data_folder_in_use_is_refused(tmp_path: Path) -> None:
    open_database(ready(tmp_path / "home")).close()
    with pytest.raises(ValueError, match="fresh data folder"):
        run_demo(tmp_path / "home", tmp_path / "out")


def test_missing_weights_are_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"flowgrpo\.starter\.build"):
        run_demo(tmp_path / "home", tmp_path / "out", weights=tmp_path)


def test_the_command_ends_with_one_when_it_cannot_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_database(ready(tmp_path / "home")).close()
    assert main(["--home", str(tmp_path / "home"), "--out", str(tmp_path / "out")]) == 1
    assert "ended early" in capsys.readouterr().out


def test_the_sheet_lays_every_prompt_out_with_the_base_above_the_tuned_model() -> None:
    dark, light = (
        torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        torch.full((2, 3, 64, 64), 255, dtype=torch.uint8),
    )
    blocks = [Block("portrait, red hair", (Strip("base", "", dark), Strip("tuned", "", light)))] * 3
    sheet = before_after("title", "summary", "foot", blocks)
    column = [sheet.getpixel((36 + 78 + 56, y)) for y in range(sheet.height)]
    assert column.count((0, 0, 0)) == column.count((255, 255, 255)) == 2 * 112  # two rows of the left column
    assert column.index((0, 0, 0)) < column.index((255, 255, 255))
