"""A run whose rewards cannot work does not start, and what to do is said; so is what has to be fetched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flowgrpo.rewards import registry
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.plugged import disabled, unasked
from flowgrpo.runs.worker import WEIGHTS
from storage import notices, runs, scores
from storage.engine import Database
from storage.models import Checkpoint
from tests.ui.test_tuning import shown_run
from ui import preflight, tuning
from ui.forms import Refused
from ui.preflight import Check
from ui.services import Services

VERIFIER: dict[str, float] = {"verifier": 1}


@pytest.fixture(autouse=True)
def _published(db: Database, tmp_path: Path) -> None:
    """What an engine with a network would publish here, and two plug-ins beside."""
    options = Options(WEIGHTS, cache=tmp_path, offline=False)
    cards = {name: registry.card(name, options) for name in registry.REGISTRY}
    others = {"broken": disabled("broken", "one 1.0 could not load it"), "slow": unasked("slow")}
    scores.publish_cards(db, cards | others)


def lines(services: Services, base: Checkpoint, **weights: float) -> dict[str, str]:
    form = replace(tuning.preset_form("smoke"), prompts="portrait, smile", weights=VERIFIER | weights)
    found = tuning.check(services, base.id, form)[1]
    return {line.text: line.level for line in found if "eward" in line.text}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("beauty", "There is no reward beauty here: write one of aesthetic, "),
        ("beauty:gain=2", "There is no reward beauty:gain=2 here"),
        ("broken", "is disabled: one 1.0 could not load it. Mend that and start the studio again"),
        ("broken:gain=2", "is disabled: one 1.0 could not load it"),
        ("remote", "it needs an address behind a colon"),
        ("pickscore", "names no licence.* Accept it by python app.py accept pickscore"),
        ("quality:fast", "The reward quality takes no option"),
        ("safety", "is a gate and teaches nothing"),
    ],
)
def test_a_reward_that_cannot_work_stands_against_the_run(
    services: Services, db: Database, base: Checkpoint, name: str, words: str
) -> None:
    form = replace(tuning.preset_form("smoke"), prompts="portrait, smile", weights=VERIFIER | {name: 1})
    with pytest.raises(Refused, match=words):
        tuning.start(services, base.id, form)
    assert runs.list_runs(db) == []


@pytest.mark.parametrize("name", ["clip", "quality", "diversity", "human", "perceptual_ref"])
def test_what_comes_with_the_studio_or_from_its_people_is_nothing_to_speak_of(
    services: Services, base: Checkpoint, name: str
) -> None:
    assert lines(services, base, **{name: 0.5}) == {f"Rewards: verifier 1, {name} 0.5.": "ok"}


def test_what_is_fetched_is_said_with_its_size(services: Services, base: Checkpoint) -> None:
    said = lines(services, base, hpsv21=1)
    assert said["The reward hpsv21 is fetched on first use: 1972 MB."] == "warn"


@pytest.mark.parametrize("name", ["clip:ViT-B-32/laion2b", "remote:http://127.0.0.1:9", "human:ViT-B-32/a"])
def test_what_stands_behind_a_colon_is_the_runs_to_judge(
    services: Services, base: Checkpoint, name: str
) -> None:
    said = lines(services, base, **{name: 1})
    assert said[f"The reward {name}: what stands behind the colon is read when the run starts."] == "ok"
    assert "bad" not in said.values()


def test_a_plug_in_that_was_not_asked_yet_may_be_used(services: Services, base: Checkpoint) -> None:
    assert "warn" in lines(services, base, **{"slow:gain=2": 1}).values()


def test_a_notice_that_was_accepted_says_no_more(services: Services, db: Database, base: Checkpoint) -> None:
    notices.accept_notice(db.home, "pickscore", registry.about("pickscore").notice_sha256)
    assert "bad" not in lines(services, base, pickscore=1).values()


def test_a_run_goes_on_without_what_it_only_watches(services: Services, base: Checkpoint) -> None:
    form = replace(tuning.preset_form("smoke"), prompts="portrait, smile", weights=VERIFIER)
    config = tuning.check(services, base.id, form)[0]
    cards = scores.reward_cards(services.db)
    facts = preflight.Facts("starter", True, 10**12, 0.5, (), True, cards)

    def found(**changes: object) -> list[Check]:
        checked = preflight.checks(config.model_copy(update=changes), facts)
        return [line for line in checked if "broken" in line.text or "beauty" in line.text]

    assert [line.level for line in found(monitors=("broken",))] == ["warn"]
    assert [line.level for line in found(gates=("broken",))] == ["bad"]
    assert [line.level for line in found(monitors=("beauty",))] == ["bad"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("beauty", "There is no reward beauty here: write one of aesthetic, "),
        ("broken", "is disabled: one 1.0 could not load it. Mend that and start the studio again"),
        ("pickscore", "names no licence.* Accept it by python app.py accept pickscore"),
        ("safety", "safety cannot judge the samples: it is a gate, which says only whether an image fails."),
        ("pixel_stats", "pixel_stats cannot judge the samples: it is a monitor"),
        ("lpips_ref", "it holds an image against another one, and samples have none"),
        ("diversity", "it judges a group and no image"),
        ("human", "it is fitted anew when people rate"),
        ("verifier", "verifier is named twice among reward_weights, gates, monitors and judges"),
    ],
)
def test_what_cannot_judge_the_samples_stands_against_the_run(
    services: Services, db: Database, base: Checkpoint, name: str, words: str
) -> None:
    form = replace(tuning.preset_form("smoke"), prompts="portrait, smile", weights=VERIFIER, judges=name)
    with pytest.raises(Refused, match=words):
        tuning.start(services, base.id, form)
    assert runs.list_runs(db) == []


def test_a_run_with_judges_says_so_before_it_starts_and_on_its_page(
    services: Services, base: Checkpoint
) -> None:
    form = replace(
        tuning.preset_form("smoke"), prompts="portrait, smile", weights=VERIFIER, judges=" quality, hpsv21,"
    )
    said = {line.text: line.level for line in tuning.check(services, base.id, form)[1]}
    assert said["Judged, and never rewarded, by quality, hpsv21."] == "ok"
    assert said["The reward hpsv21 is fetched on first use: 1972 MB."] == "warn"
    run = tuning.start(services, base.id, form)
    assert run.config["judges"] == ["quality", "hpsv21"]
    assert "<dd>quality, hpsv21</dd>" in shown_run(services, run.id)


def test_wanted_images_are_a_folder_that_is_there(
    services: Services, base: Checkpoint, tmp_path: Path
) -> None:
    form = replace(
        tuning.preset_form("smoke"), prompts="portrait, smile", weights={"perceptual_ref": 1.0, "clip": 1.0},
        references=f" {tmp_path / 'wanted'}",
    )  # fmt: skip
    with pytest.raises(Refused, match=r"wanted is no folder on this machine: name one with images"):
        tuning.start(services, base.id, form)
    (tmp_path / "wanted").mkdir()
    run = tuning.start(services, base.id, form)
    assert run.config["references"] == str(tmp_path / "wanted")
    assert f"<dd>{tmp_path / 'wanted'}</dd>" in shown_run(services, run.id)


def test_before_an_engine_has_started_nothing_stands_against_a_reward(
    services: Services, db: Database, base: Checkpoint
) -> None:
    scores.publish_cards(db, {})
    assert lines(services, base, beauty=1) == {"Rewards: verifier 1, beauty 1.": "ok"}
