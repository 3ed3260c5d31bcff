"""The tables and the plot of a result: every number with its interval, nothing that breaks a format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flowgrpo.runs.evaluation_report import as_csv, as_latex, as_markdown, words, write_files


def cell(value: float, change: float | None = None, **more: Any) -> dict[str, Any]:
    told = {"key": "clip@c/n8", "extractor": "c", "value": value, "low": value - 0.02, "high": value + 0.02,
            "num_prompts": 4, "num_images": 8}  # fmt: skip
    if change is not None:
        ends = {"value": change, "low": change - 0.01, "high": change + 0.01}
        told["change"] = {**ends, "is_clear": abs(change) > 0.01}
    return told | more


def result(*, steps: tuple[int, ...] = (8,)) -> dict[str, Any]:
    rows = [
        {
            "checkpoint": f"id-{name}", "name": name, "steps": count, "evaluations": 2 * count,
            "seconds": 0.01 * count,
            "figures": {
                "clip": cell(0.9, None if not at and count == steps[0] else 0.05),
                "kid": cell(-0.001, key="kid@e/n8", p=0.25),
                "psnr/base": cell(30.0, key="psnr/base@pixels/n8") if at else {**cell(0), "value": None},
                "judge/mouth": cell(1.0, key="judge/mouth@j/n8"),
            },
        }
        for at, name in enumerate(["starter", "a|b_c & <b>"])
        for count in steps
    ]  # fmt: skip
    metrics = [("clip", "CLIP score", "higher", ""), ("kid", "KID", "lower", ""),
               ("psnr/base", "PSNR to base", "neither", "dB"),
               ("judge/mouth", "judge/mouth", "higher", "")]  # fmt: skip
    return {
        "base": "starter", "prompts": ["x"] * 4, "seeds": [0, 1], "guidance_scale": 3.0, "size": [64, 64],
        "interval": "95%", "references": "12 renders", "against": f"starter, {steps[0]} steps",
        "metrics": [dict(zip(("name", "title", "better", "unit"), m, strict=True)) for m in metrics],
        "rows": rows, "absent": {"fid": "too few images"}, "failed": {"third": "its files are damaged"},
        "trained_on": {"id-a": "2 of 4 prompts trained a: its numbers there say little."},
    }  # fmt: skip


def test_markdown_has_every_number_its_interval_and_what_is_absent() -> None:
    told = as_markdown(result())
    assert "2 checkpoints on 4 prompts × 2 seeds" in told
    assert "| starter | 8 | 0.08 | 0.900 (0.880 to 0.920) | −0.001 (−0.021 to 0.019), p 0.25 | – |" in told
    assert "**+0.050 (+0.040 to +0.060)**" in told
    assert "CLIP score ↑" in told and "KID ↓" in told
    assert "Absent, fid: too few images" in told and "Not drawn, third" in told
    assert "- 2 of 4 prompts trained a: its numbers there say little.\n- Intervals: 95%." in told
    assert "kid@e/n8" in told and "judge/mouth" not in told


def test_a_name_breaks_neither_markdown_nor_latex() -> None:
    assert "| a\\|b_c & &lt;b> |" in as_markdown(result())
    told = as_latex(result())
    assert r"a|b\_c \& <b>" in told
    assert r"\textbf{+0.050 (+0.040 to +0.060)}" in told
    assert told.count(r"\begin{tabular}") == told.count(r"\end{tabular}") == 2
    for line in told.splitlines():
        if line.endswith(r" \\"):
            assert line.count("&") - line.count(r"\&") in (2, 5), line


def test_csv_has_a_line_for_each_checkpoint_and_metric() -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(result()))))
    assert len(lines) == 2 * 4
    first, other = lines[0], lines[4]
    assert (first["metric"], first["value"], first["change"], first["better"]) == (
        "clip",
        "0.9",
        "",
        "higher",
    )
    assert (other["name"], other["change"], other["num_images"]) == ("a|b_c & <b>", "0.05", "8")
    assert lines[2]["value"] == ""


def test_csv_has_no_cell_that_a_spreadsheet_would_run() -> None:
    named = result()
    named["rows"][1]["name"] = '=HYPERLINK("http://evil.example")'
    lines = list(csv.DictReader(io.StringIO(as_csv(named))))
    assert lines[4]["name"] == '\'=HYPERLINK("http://evil.example")'
    named["rows"][1]["figures"]["clip"]["change"]["value"] = -0.5
    assert list(csv.DictReader(io.StringIO(as_csv(named))))[4]["change"] == "-0.5"


def test_csv_says_on_each_line_what_taught_the_checkpoint_or_the_metric() -> None:
    learned = result()
    learned["trained_on"] = {"id-starter": "2 of 4 prompts trained it.", "clip": "The head knows."}
    lines = list(csv.DictReader(io.StringIO(as_csv(learned))))
    first, other = ({line["metric"]: line["trained_on"] for line in half} for half in (lines[:4], lines[4:]))
    assert (first.pop("clip"), other.pop("clip")) == (
        "2 of 4 prompts trained it. The head knows.", "The head knows.",
    )  # fmt: skip
    assert set(first.values()) == {"2 of 4 prompts trained it."}
    assert set(other.values()) == {""}


def test_one_checkpoint_has_no_table_of_differences() -> None:
    alone = result()
    alone["rows"] = alone["rows"][:1]
    assert "## Against" not in as_markdown(alone)
    assert as_latex(alone).count(r"\begin{tabular}") == 1


@pytest.mark.parametrize(
    ("value", "low", "high", "told"),
    [(0.99612, 0.99, 1.0, "0.9961 (0.9900 to 1.0000)"), (175.3, 150.0, 200.0, "175 (150 to 200)"),
     (1.0, 1.0, 1.0, "1.000 (1.000 to 1.000)"), (0.5, None, None, "0.5")],
)  # fmt: skip
def test_digits_follow_from_the_width_of_the_interval(
    value: float, low: float | None, high: float | None, told: str
) -> None:
    assert words({"value": value, "low": low, "high": high}) == told


@pytest.mark.parametrize("steps", [(8,), (4, 8, 16)])
def test_the_plot_is_a_picture_of_its_panels(tmp_path: Path, steps: tuple[int, ...]) -> None:
    names = write_files(result(steps=steps), tmp_path)
    assert json.loads((tmp_path / names["json"]).read_text())["base"] == "starter"
    with Image.open(tmp_path / names["plot"]) as picture:
        assert picture.width > 900
        assert len(picture.convert("RGB").resize((64, 64)).getcolors(4096) or []) > 20
    assert not list(tmp_path.glob("*.partial*"))


def test_a_result_without_one_number_is_still_a_report(tmp_path: Path) -> None:
    empty = result()
    for row in empty["rows"]:
        row["figures"] = {}
    assert set(write_files(empty, tmp_path)) == {"json", "csv", "markdown", "latex", "plot"}
