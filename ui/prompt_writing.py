"""Prompt sets as text that `ui.prompt_files` reads back as the same: lines, a table, or JSON lines. Pure."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ui.prompt_files import FLAGS, OTHERS, SPLIT_LINE, Kind, Line, is_plain, of_flag, own, tidy

_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KINDS = dict(FLAGS.values())
_OF_NAME = {name: flag for flag, (name, _) in FLAGS.items()}


def written(lines: Sequence[Line], kind: Kind) -> str:
    """The text of a list, with what stands beside the prompts.

    A .txt has the splits as comments and kohya's flags; of what no flag says it tells in a comment that it is
    left out. A table and JSON lines have everything.
    """
    return {"txt": _as_text, "csv": _as_table, "jsonl": _as_objects}[kind](lines)


def _as_text(lines: Sequence[Line]) -> str:
    told: list[str] = []
    lacking = {key for line in lines for key in own(line.attributes) if not _is_flag(line.attributes, key)}
    if lacking:
        told.append(f"# Not in a .txt, but in a .csv or .jsonl: {', '.join(sorted(lacking))}")
    if odd := sum(not is_plain(line.text) for line in lines):
        told.append(f"# Not read back as they are from a .txt, but from a .csv or .jsonl: {odd} prompts")
    now = None
    for line in lines:
        if line.split != now:
            now = line.split
            told.append(f"{SPLIT_LINE}{now or 'train'}")
        told.append(tidy(line.text) + _flags(line.attributes))
    return "".join(f"{one}\n" for one in told)


def _flags(attributes: Mapping[str, Any]) -> str:
    named = {key: value for key, value in attributes.items() if _is_flag(attributes, key)}
    return "".join(f" --{_OF_NAME[key]} {value}" for key, value in named.items())


def _is_flag(attributes: Mapping[str, Any], key: str) -> bool:
    """Whether a flag says exactly this: what is read back is the same value."""
    value = attributes[key]
    if key not in _KINDS or type(value) is not _KINDS[key]:
        return False
    words = str(value)
    return tidy(words) == words and " --" not in f" {words}" and _reads_as(key, words, value)


def _reads_as(key: str, words: str, value: Any) -> bool:
    try:
        return bool(of_flag(_KINDS[key], words) == value)
    except ValueError:
        return False


def _as_table(lines: Sequence[Line]) -> str:
    kept = [own(line.attributes) for line in lines]
    columns = list(dict.fromkeys(key for one in kept for key in one if _has_column(key)))
    rows = [
        {key: value for key, value in one.items() if key in columns and _is_cell(key, value)} for one in kept
    ]
    rest = [
        {key: value for key, value in one.items() if key not in row}
        for one, row in zip(kept, rows, strict=True)
    ]
    columns = [key for key in columns if any(key in row for row in rows)]
    names = ["prompt", "split", *columns, *([OTHERS] if any(rest) else [])]
    out = io.StringIO()
    table = csv.DictWriter(out, names, lineterminator="\n", restval="")
    table.writeheader()
    for line, row, others in zip(lines, rows, rest, strict=True):
        more = {OTHERS: _json(others)} if others else {}
        table.writerow({"prompt": line.text, "split": line.split or "", **row, **more})
    return out.getvalue()


def _has_column(key: str) -> bool:
    return key != OTHERS and _COLUMN.fullmatch(key) is not None


def _is_cell(key: str, value: Any) -> bool:
    """Whether a cell says exactly this: no number where one is read, and no end that is cut."""
    if type(value) is not _KINDS.get(key, str):
        return False
    words = str(value)
    return bool(words) and words == words.strip() and "\r" not in words and _fits(key, words, value)


def _fits(key: str, words: str, value: Any) -> bool:
    return _reads_as(key, words, value) if key in _KINDS else "\0" not in words


def _as_objects(lines: Sequence[Line]) -> str:
    return "".join(
        _json({"prompt": line.text, "split": line.split, **own(line.attributes)}) + "\n" for line in lines
    )


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
