"""Lists of prompts as people have them: a line each, a table, or JSON lines. Pure: text in, prompts out.

Every prompt is NFC with single blanks, no two differ in case, width and spacing alone, and whatever was left
out or changed on the way is told in a sentence.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from storage.lookup import prompt_hash
from storage.models import Split
from ui.forms import Refused, check_prompt

Kind = Literal["txt", "csv", "jsonl"]
MAX_BYTES = 900_000
"""Of a list; a request of ours has a million bytes at most, and JSON adds some."""
DEFAULT_SHARE = 20
"""Percent that is held out."""
FLAGS: Mapping[str, tuple[str, type]] = {
    "n": ("negative_prompt", str),
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "l": ("guidance_scale", float),
    "s": ("num_steps", int),
}
"""Flags of kohya's sample prompts to our names for them."""
OTHERS = "attributes"
"""Column of a table that has a JSON object: what stands beside a prompt and fits no column of its own."""
OTHER_FLAGS = ("am", "cn", "ctr", "f", "fs", "g", "i", "ss")
"""Flags of kohya's trainers that mean nothing here: other samplers, control images, videos."""
SPLIT_LINE = "# split: "
"""Begins a comment of a .txt: the prompts below it belong to the split that it names."""
_HELD_OUT = ("held_out", "held out", "heldout", "test", "val", "valid", "validation", "eval")
_SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    **dict.fromkeys(_HELD_OUT, "held_out"),
}
_FLAG = re.compile(r"(?:^|\s)--([a-z]+)(?=\s|$)")
_NAMED = 5
"""Lines that a sentence names; of more it says how many there are."""


@dataclass(frozen=True)
class Line:
    """One prompt.

    Attributes:
        number: of the line or row that it stands on.
        split: where the list itself says which one it belongs to.
        attributes: what else stands beside it.
    """

    number: int
    text: str
    split: Split | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """The prompts of a list, and sentences about what was left out or changed."""

    kind: Kind
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_splits(self) -> bool:
        """Whether the list itself says of some prompts which split they belong to."""
        return any(line.split for line in self.lines)


def read(text: str, name: str = "") -> Reading:
    """Reads a list.

    Args:
        name: of the file, whose ending says what it is; without one the text itself says it.

    Raises:
        Refused: there is no prompt in it, or a line that cannot be read, which the sentence names.
    """
    size = len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        raise Refused(f"The list has {size:,} bytes; at most {MAX_BYTES:,} are read, so divide it into two.")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    kind = kind_of(text, name)
    notes: list[str] = []
    found = {"txt": _lines_of_text, "csv": _rows_of_table, "jsonl": _objects}[kind](text, notes)
    lines = _without_duplicates(found, notes)
    if not lines:
        raise Refused("The list has no prompts: write one a line, or choose a file that has some.")
    return Reading(kind, lines, tuple(notes))


def kind_of(text: str, name: str = "") -> Kind:
    """What a list is: by the ending of its file, else by how it begins."""
    ending = name.lower().rpartition(".")[2]
    if ending in ("jsonl", "ndjson", "json"):
        return "jsonl"
    if ending in ("csv", "tsv"):
        return "csv"
    if ending == "txt":
        return "txt"
    first = next((line for line in text.split("\n") if line.strip()), "")
    if first.lstrip().startswith("{"):
        return "jsonl"
    columns = [cell.strip().strip('"').lower() for cell in re.split(r"[,;\t]", first)]
    return "csv" if columns == ["prompt"] or ("prompt" in columns and "split" in columns) else "txt"


def divided(
    lines: Sequence[Line], share: float, held_before: Collection[str] = ()
) -> tuple[list[Line], list[Line]]:
    """(training prompts, held-out prompts), about `share` of them held out.

    Which ones follows from each prompt alone, so that it stays in its split when others come or go. One of
    each is kept wherever there are two prompts and a share between none and all.

    Args:
        held_before: hashes of prompts that an earlier version held out; they stay so.
    """
    if not 0 <= share < 1 or not lines or share == 0 or len(lines) == 1:
        return list(lines), []
    by_place = sorted(lines, key=lambda line: _place(line.text))
    held = {line.text for line in by_place if _place(line.text) < share}
    held |= {line.text for line in lines if prompt_hash(line.text) in held_before}
    held = held or {by_place[0].text}
    if len(held) == len(lines):
        held -= {by_place[-1].text}
    return [one for one in lines if one.text not in held], [one for one in lines if one.text in held]


def as_the_list_says(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """(training prompts, held-out prompts); those of which the list says nothing are trained on."""
    held = [line for line in lines if line.split == "held_out"]
    return [line for line in lines if line.split != "held_out"], held


def _place(text: str) -> float:
    """A number from 0 to 1 that follows from the prompt."""
    return int(prompt_hash(text)[:13], 16) / 16**13


def tidy(text: str) -> str:
    """NFC, with single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _checked(number: int, text: str) -> str:
    return check_prompt(tidy(text), f"Line {number}")


def _lines_of_text(text: str, notes: list[str]) -> Iterator[Line]:
    """A line each; empty lines and comments (#) are none."""
    comments: list[int] = []
    kept: set[str] = set()
    odd: list[str] = []
    split: Split | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if line.startswith(SPLIT_LINE):
            split = _split(number, line.removeprefix(SPLIT_LINE))
            continue
        if line.lstrip().startswith("#"):
            comments.append(number)
            continue
        prompt, attributes, trouble = _flags(line)
        kept |= attributes.keys()
        odd += [f"line {number}: {one}" for one in trouble]
        yield Line(number, _checked(number, prompt), split, attributes)
    if comments:
        notes.append(f"Comments were left out: {_named(comments)}.")
    if kept:
        names = [f"--{flag}" for flag, (name, _) in FLAGS.items() if name in kept]
        notes.append(
            f"Flags were taken off the prompts and kept beside them: {', '.join(names)}. Studio and Train "
            "draw every prompt of a set with settings of their own."
        )
    if odd:
        more = f", and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
        notes.append(
            "Flags that could not be read or mean nothing here were left out: "
            f"{'; '.join(odd[:_NAMED])}{more}."
        )


def _flags(line: str) -> tuple[str, dict[str, Any], list[str]]:
    """(prompt, attributes, what was left out); flags that kohya does not have stay in the prompt."""
    marks = [mark for mark in _FLAG.finditer(line) if mark[1] in FLAGS or mark[1] in OTHER_FLAGS]
    prompt = line[: marks[0].start()] if marks else line
    attributes: dict[str, Any] = {}
    odd: list[str] = []
    ends = [*(mark.start() for mark in marks[1:]), len(line)]
    for mark, end in zip(marks, ends, strict=False):
        value = tidy(line[mark.end() : end])
        try:
            name, kind = FLAGS[mark[1]]
            attributes[name] = of_flag(kind, value)
        except (KeyError, ValueError):
            odd.append(f"--{mark[1]} {value[:20]}".strip())
    return prompt, attributes, odd


def is_plain(text: str) -> bool:
    """Whether a line of a .txt says exactly this prompt: it begins no comment, and no flag is in it."""
    return not text.startswith("#") and _flags(text)[0] == text and tidy(text) == text


def of_flag(kind: type, value: str) -> Any:
    """What a flag's words say; raises ValueError where they say nothing."""
    read = kind(value)
    if read == "" or read != read or read in (float("inf"), float("-inf")):
        raise ValueError("no value")
    return read


def _rows_of_table(text: str, notes: list[str]) -> Iterator[Line]:
    """Rows with a column prompt and perhaps one split; the other columns stand beside the prompt."""
    header = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    named = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    if "prompt" not in named:
        columns = ", ".join(filter(None, named)) or "no columns"
        raise Refused(f"The table has {columns}; one column must be called prompt, so name it that.")
    beside = [name for name in named if name not in ("", "prompt", "split")]
    kinds = dict(FLAGS.values())
    try:
        for row in reader:
            prompt = row[named["prompt"]] or ""
            if not prompt.strip():
                continue
            cells = {name: cell for name in beside if (cell := (row.get(named[name]) or "").strip())}
            others = _of_cells(cells, kinds)
            split = _split(reader.line_num, row.get(named["split"]) if "split" in named else None)
            yield Line(reader.line_num, _checked(reader.line_num, prompt), split, others)
    except csv.Error as error:
        raise Refused(f"Line {reader.line_num} cannot be read as a table ({error}): mend it.") from error
    if beside:
        notes.append(f"Other columns are kept beside the prompts: {', '.join(beside)}.")


def _of_cells(cells: Mapping[str, str], kinds: Mapping[str, type]) -> dict[str, Any]:
    """Columns that are called as our settings have numbers where these do, and `OTHERS` has an object."""
    found: dict[str, Any] = {}
    for name, cell in cells.items():
        try:
            told = json.loads(cell, parse_constant=_no_constant) if name == OTHERS else None
            value = of_flag(kinds.get(name, str), cell)
        except (ValueError, RecursionError):
            told, value = None, cell
        found |= own(told) if isinstance(told, dict) else {name: value}
    return found


def _objects(text: str, notes: list[str]) -> Iterator[Line]:
    """A JSON object a line, with a prompt and perhaps a split; what else it has stands beside the prompt."""
    beside: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            one = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Refused(
                f"Line {number} is no JSON: write one object a line, such as " + '{"prompt": "red hair"}.'
            ) from error
        if not isinstance(one, dict) or not isinstance(one.get("prompt"), str):
            raise Refused(f"Line {number} has no prompt: write an object with the key prompt and its text.")
        others = own(one)
        beside |= dict.fromkeys(others)
        yield Line(number, _checked(number, one["prompt"]), _split(number, one.get("split")), others)
    if beside:
        notes.append(f"Other keys are kept beside the prompts: {', '.join(list(beside)[:20])}.")


def own(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside a prompt, without what is a column of every list."""
    return {key: value for key, value in attributes.items() if key not in ("prompt", "split")}


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _split(number: int, value: object) -> Split | None:
    word = str(value if value is not None else "").strip().lower().replace("-", "_")
    if not word:
        return None
    if word not in _SPLITS:
        raise Refused(f"Line {number} has the split {word[:40]}: write train or held_out.")
    return _SPLITS[word]


def _without_duplicates(lines: Iterator[Line], notes: list[str]) -> tuple[Line, ...]:
    kept: dict[str, Line] = {}
    again: list[int] = []
    for line in lines:
        if kept.setdefault(prompt_hash(line.text), line) is not line:
            again.append(line.number)
    if again:
        what = "1 duplicate was" if len(again) == 1 else f"{len(again):,} duplicates were"
        notes.insert(0, f"{what} left out: {_named(again)}.")
    return tuple(kept.values())


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_NAMED]))
    more = f" and {len(numbers) - _NAMED:,} more" if len(numbers) > _NAMED else ""
    return f"{'line' if len(numbers) == 1 else 'lines'} {shown}{more}"
