"""The result of an evaluation for people and programs: CSV, Markdown, LaTeX, and a plot."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from flowgrpo.metrics.names import is_part
from flowgrpo.runs.evaluation_plot import write_plot
from flowgrpo.runs.evaluation_result import Result, shown

ARROWS: Final = {"higher": "↑", "lower": "↓", "neither": ""}
MOST_DIGITS: Final = 4
_LATEX: Final = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "²": "$^2$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "−": "$-$",
}  # fmt: skip
_MARKDOWN: Final = {"|": "\\|", "\n": " ", "<": "&lt;", "*": "\\*", "`": "\\`"}
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_FIELDS: Final = (
    "checkpoint", "name", "steps", "evaluations", "seconds", "metric", "key", "extractor", "value", "low",
    "high", "change", "change_low", "change_high", "p", "num_prompts", "num_images", "better", "note",
    "trained_on",
)  # fmt: skip


def write_files(result: Result, folder: Path) -> dict[str, str]:
    """Writes the result in every form; returns form to file name."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"json": as_json, "csv": as_csv, "markdown": as_markdown, "latex": as_latex}
    names = {"json": "result.json", "csv": "table.csv", "markdown": "table.md", "latex": "table.tex"}
    for form, told in texts.items():
        (folder / names[form]).write_text(told(result), encoding="utf-8")
    write_plot(result, folder / "plot.png")
    return names | {"plot": "plot.png"}


def as_json(result: Result) -> str:
    """For programs, whole."""
    return json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(result: Result) -> str:
    """One line per checkpoint and metric; empty where there is no number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _FIELDS, lineterminator="\n")
    writer.writeheader()
    better = {metric["name"]: metric["better"] for metric in result["metrics"]}
    for row in result["rows"]:
        own = {key: row[key] for key in ("checkpoint", "name", "steps", "evaluations", "seconds")}
        for name, cell in row["figures"].items():
            change = cell.get("change") or {}
            ends = {"change": "value", "change_low": "low", "change_high": "high"}
            told = {key: cell[key] for key in _FIELDS if key in cell and key != "change"}
            told |= {key: change[end] for key, end in ends.items() if change}
            learned = [
                result["trained_on"][key] for key in (row["checkpoint"], name) if key in result["trained_on"]
            ]
            told["trained_on"] = " ".join(learned)
            whole = own | {"metric": name, "better": better[name]} | told
            writer.writerow({key: _no_formula(value) for key, value in whole.items()})
    return text.getvalue()


def _no_formula(cell: object) -> object:
    """A text that a spreadsheet would take for a formula, behind the mark of a plain text."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def as_markdown(result: Result) -> str:
    """Two tables, the figures and the paired differences, with what it takes to read them."""
    parts = [f"# {title(result)}", sampled(result), _table(result, _markdown_row, _markdown_rule)]
    if len(result["rows"]) > 1:
        parts += [f"## Against {_markdown(result['against'])}", _CHANGES]
        parts.append(_changes(result, _markdown_row, _markdown_rule))
    parts += ["## What was measured", "\n".join(f"- {line}" for line in map(_markdown, notes(result)))]
    return "\n\n".join(parts) + "\n"


_CHANGES: Final = "Paired by prompt and seed. **Bold** where the interval leaves zero out."


def as_latex(result: Result) -> str:
    """Both tables as booktabs tabulars, with the notes as comments."""
    lines = [f"% {line}" for line in (title(result), sampled(result), *notes(result))]
    lines.append(_table(result, _latex_row, _latex_rule))
    if len(result["rows"]) > 1:
        lines += [f"% Differences to {result['against']}, paired; bold where the interval leaves zero out"]
        lines.append(_changes(result, _latex_row, _latex_rule))
    return "\n".join(lines) + "\n"


def title(result: Result) -> str:
    """What was evaluated."""
    count = len({row["checkpoint"] for row in result["rows"]})
    return (
        f"{count} checkpoint{'s' * (count > 1)} on {len(result['prompts'])} prompts × "
        f"{len(result['seeds'])} seed{'s' * (len(result['seeds']) > 1)}"
    )


def sampled(result: Result) -> str:
    """How its images were drawn."""
    width, height = result["size"]
    steps = sorted({row["steps"] for row in result["rows"]})
    guidance = "no guidance" if result["guidance_scale"] == 1 else f"guidance {result['guidance_scale']:g}"
    return f"Base {result['base']}, {', '.join(map(str, steps))} steps, {guidance}, {width}×{height} pixels."


def notes(result: Result) -> list[str]:
    """What is no new prompt to whom; keys, intervals, labels, and what is absent."""
    keys: dict[str, str] = {}
    for row in result["rows"]:
        for name, cell in row["figures"].items():
            if not is_part(name):
                keys.setdefault(cell["key"], cell.get("note", ""))
    lines = [*result["trained_on"].values(), f"Intervals: {result['interval']}."]
    if result["references"]:
        lines.append(f"Distributions are held against {result['references']}.")
    lines += [f"{key}{': ' if note else ''}{note}" for key, note in keys.items()]
    lines += [f"Absent, {name}: {why}." for name, why in result["absent"].items()]
    return lines + [f"Not drawn, {name}: {why}." for name, why in result["failed"].items()]


def words(cell: Result | None, signed: bool = False) -> str:
    """A figure with its interval, to two digits of the interval's half: "0.996 (0.994 to 0.998)"; its p."""
    chance = f", p {cell['p']:.2g}" if cell and "p" in cell else ""
    return _interval(cell, signed) + chance


def _interval(cell: Result | None, signed: bool) -> str:
    if not cell or cell["value"] is None:
        return "–"
    sign = "+" if signed else ""
    if cell["low"] is None:
        return f"{cell['value']:{sign}.{MOST_DIGITS}g}"
    half = (cell["high"] - cell["low"]) / 2
    digits = min(MOST_DIGITS, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 3
    value, low, high = (f"{cell[key]:{sign}.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})".replace("-", "−")


Line = Callable[[Sequence[str]], str]
Frame = Callable[[Sequence[str], Sequence[str], Line], list[str]]


def _table(result: Result, line: Line, frame: Frame) -> str:
    metrics = shown(result)
    heads = ["checkpoint", "steps", "s / image"]
    heads += [f"{metric['title']} {ARROWS[metric['better']]}".strip() for metric in metrics]
    body = []
    for row in result["rows"]:
        seconds = "–" if row["seconds"] is None else f"{row['seconds']:.3g}"
        cells = [words(row["figures"].get(metric["name"])) for metric in metrics]
        body.append(line([row["name"], str(row["steps"]), seconds, *cells]))
    return "\n".join(frame(heads, body, line))


def _changes(result: Result, line: Line, frame: Frame) -> str:
    rows = result["rows"][1:]
    metrics = [
        m for m in shown(result) if any(row["figures"].get(m["name"], {}).get("change") for row in rows)
    ]
    heads = ["checkpoint", "steps", *(metric["title"] for metric in metrics)]
    strong = "**{}**" if line is _markdown_row else "\\textbf{{{}}}"
    body = []
    for row in rows:
        cells = []
        for metric in metrics:
            change = row["figures"].get(metric["name"], {}).get("change")
            told = words(change, signed=True)
            cells.append(strong.format(told) if change and change["is_clear"] else told)
        body.append(line([row["name"], str(row["steps"]), *cells]))
    return "\n".join(frame(heads, body, line))


def _markdown(text: str) -> str:
    return "".join(_MARKDOWN.get(sign, sign) for sign in text)


def _markdown_row(cells: Sequence[str]) -> str:
    first, *rest = cells
    return "| " + " | ".join([_markdown(first), *rest]) + " |"


def _markdown_rule(heads: Sequence[str], body: Sequence[str], line: Line) -> list[str]:
    return [line(heads), "|---|" + "---:|" * (len(heads) - 1), *body]


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _latex(text: str) -> str:
    bold = text.startswith("\\textbf{") and text.endswith("}")
    inner = text[8:-1] if bold else text
    escaped = "".join(_LATEX.get(sign, sign) for sign in inner)
    return f"\\textbf{{{escaped}}}" if bold else escaped


def _latex_rule(heads: Sequence[str], body: Sequence[str], line: Line) -> list[str]:
    columns = "l" + "r" * (len(heads) - 1)
    return [
        f"\\begin{{tabular}}{{{columns}}}", r"\toprule", line(heads), r"\midrule", *body, r"\bottomrule",
        r"\end{tabular}",
    ]  # fmt: skip
