"""Evaluations on a page: what one would take, starting and canceling it, its table, charts and files."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from flowgrpo.metrics.names import METRICS
from storage import evaluations, jobs, users
from storage.engine import Database
from storage.models import User
from tests.ui.blinded import PROMPTS, SEEDS, Blinded, blinded
from tests.ui.serving import GRADIO_NOISE, web
from ui import evaluating
from ui.components.interval_charts import chart, number
from ui.evaluation_files import file_url
from ui.forms import Refused
from ui.language import catalog
from ui.parts.evaluations import acted, drawn
from ui.services import Services

pytestmark = GRADIO_NOISE


def figure(value: float | None, half: float | None, **more: Any) -> dict[str, Any]:
    ends = (None, None) if half is None or value is None else (value - half, value + half)
    told = {"key": "k", "extractor": "judge-1", "value": value, "low": ends[0], "high": ends[1]}
    return told | {"num_prompts": 24, "num_images": 96} | more


def change(value: float, half: float) -> dict[str, Any]:
    low, high = value - half, value + half
    return {"value": value, "low": low, "high": high, "is_clear": low > 0 or high < 0}


RESULT: dict[str, Any] = {
    "base": "starter",
    "prompts": ["p"] * 24,
    "seeds": [1, 2, 3, 4],
    "interval": "95%",
    "references": "",
    "metrics": [
        {"name": "judge", "title": "judge", "better": "higher", "unit": ""},
        {"name": "diversity", "title": "diversity", "better": "higher", "unit": ""},
        {"name": "ssim/base", "title": "SSIM to base", "better": "neither", "unit": ""},
        {"name": "judge/hair", "title": "judge/hair", "better": "higher", "unit": ""},
    ],
    "rows": [
        {"checkpoint": "b", "name": "starter", "steps": 8, "seconds": 0.1, "figures": {
            "judge": figure(0.929, 0.012), "diversity": figure(0.638, 0.03), "judge/hair": figure(0.9, 0.1)}},
        {"checkpoint": "t", "name": "run <i>", "steps": 8, "seconds": 0.1, "figures": {
            "judge": figure(0.962, 0.01, change=change(0.033, 0.012)),
            "diversity": figure(0.611, 0.03, change=change(-0.027, 0.03)),
            "ssim/base": figure(0.8, 0.02)}},
    ],
    "trained_on": {},
    "absent": {"fid": "too few images"},
    "failed": {},
    "files": {"csv": "table.csv", "json": "result.json", "markdown": "table.md"},
}  # fmt: skip


@pytest.fixture
def data(db: Database) -> Blinded:
    return blinded(db)


@pytest.fixture
def me(db: Database) -> User:
    return users.get_user(db, users.LOCAL)


def typed(data: Blinded, prompts: str = "\n".join(PROMPTS), sweep: str = "") -> list[object]:
    ids = [data.base.id, data.tuned.id]
    return [ids, prompts, 2, 8, 1.0, ", ".join(map(str, SEEDS)), "", 64, 64, sweep]


def finished(db: Database, data: Blinded, me: User) -> str:
    asked = evaluations.request_evaluation(
        db, {"checkpoints": [data.base.id], "prompts": ["p"], "seeds": [1], "config": {}}, me.id
    )
    jobs.claim_job(db, "w")
    jobs.finish_job(db, asked.id, RESULT)
    return asked.id


def test_the_plan_counts_what_is_there_and_what_a_sweep_adds(
    services: Services, data: Blinded, me: User
) -> None:
    html = evaluating.plan_html(services, me, typed(data))
    assert "2 checkpoints × 3 prompts × 2 images: 12 images in all." in html
    assert "All 12 images are there." in html and "Below 6 prompts" in html
    html = evaluating.plan_html(services, me, typed(data, sweep="8, 16"))
    assert "12 of 24 images are not drawn yet." in html
    html = evaluating.plan_html(services, me, typed(data, sweep="8, 8"))
    assert "each once" in html and 'data-act="start"' not in html


def test_an_evaluation_is_a_job_that_may_be_canceled_and_asked_again(
    services: Services, data: Blinded, me: User
) -> None:
    job_id = evaluating.start(services, me, typed(data, sweep="4 8"))
    payload = jobs.get_job(services.db, job_id).payload
    assert payload["steps"] == [4, 8] and payload["seeds"] == list(SEEDS)
    assert "Next in the queue." in drawn(services, me, job_id)[2]
    _, _, html = acted(services, me, job_id, "cancel", job_id)
    assert "It was canceled." in html
    again, _, _ = acted(services, me, job_id, "again", job_id)
    assert jobs.get_job(services.db, again).payload == payload
    with pytest.raises(Refused, match="role artist"):
        evaluating.start(services, data.ann, typed(data))
    assert "no evaluation at this address" in drawn(services, me, "f" * 36)[2]


def test_the_table_greys_what_is_not_clear_and_folds_the_parts(
    services: Services, db: Database, data: Blinded, me: User
) -> None:
    html = drawn(services, me, finished(db, data, me))[2]
    assert '<td class="clear">+0.033' in html and '<td class="grey">−0.027' in html
    assert "judge-1 · n 96" in html and "run &lt;i&gt;" in html and "<i>" not in html.split("run &lt;")[1][:9]
    table = evaluating.table(RESULT)
    assert [line["name"] for line in table["lines"]] == ["judge", "diversity", "ssim/base"]
    assert [line["name"] for line in table["parts"]] == ["judge/hair"]
    assert "too few images" in html


def test_a_chart_shows_the_reference_line_only_where_the_reference_has_a_number() -> None:
    judge, _, ssim = evaluating.table(RESULT)["charts"]
    assert judge.base == judge.bars[0].x < judge.bars[1].x
    assert judge.bars[1].is_clear and judge.bars[0].low < judge.bars[0].x < judge.bars[0].high
    assert ssim.base is None and len(ssim.bars) == 1
    assert chart({"title": "t", "better": "higher"}, [("a", {}), ("b", {"value": None})]) is None


def test_figures_are_written_to_two_digits_of_their_doubt() -> None:
    assert number(0.92871, 0.9169, 0.9406) == "0.929"
    assert number(-41.23, -44.0, -38.0) == "−41.2"
    assert number(0.123456) == "0.1235"


def test_every_metric_of_the_engine_has_a_sentence_that_says_what_it_means() -> None:

    unsaid = [name for name in METRICS if f"evaluations.means_{name.replace('/', '_')}" not in catalog("en")]
    assert unsaid == []
    assert "reward" in evaluating.meaning("a_reward_of_somebody")


def test_files_are_had_by_the_id_of_their_job_and_nothing_else_is(
    db: Database, data: Blinded, me: User
) -> None:
    job_id = finished(db, data, me)
    folder = db.home / "evaluations" / job_id
    folder.mkdir(parents=True)
    (folder / "table.csv").write_text("checkpoint\n")
    with web(db) as url:
        got = httpx.get(url + file_url(job_id, "csv"))
        assert (got.status_code, got.text) == (200, "checkpoint\n")
        assert (
            f'filename="evaluation-{jobs.get_job(db, job_id).seq}.csv"' in got.headers["content-disposition"]
        )
        for form, words in (("json", "are gone"), ("latex", "no such file"), ("..%2Fstudio.db", "")):
            refused = httpx.get(url + file_url(job_id, form))
            assert refused.status_code == 404 and words in refused.text
