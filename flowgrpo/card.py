"""The card beside what is exported: what it is, what loads it, where it goes, and what it learned from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flowgrpo import programs
from flowgrpo.families import UNETS
from flowgrpo.filefacts import Origin, description_of

NOT_KNOWN: Final = "not known here; see where the base comes from"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!~])")
_WAYS: Final[Mapping[str, str]] = {
    "ratings": "it learned from them directly",
    "head": "its human reward was fitted to them",
    "in_the_loop": "given while it ran",
    "weights": "the weights of its rewards were fitted to them",
}
"""How votes taught it (`storage.ancestry.VotesBehind`), in words."""


@dataclass(frozen=True)
class Exported:
    """What a card stands beside.

    Attributes:
        name: of the file, or of the folder of a merged model.
        family: of the base.
        source: of the base, as its row has it; only its last part is given away where it is a path.
        options: of the base's row.
        layout: diffusers or kohya of an adapter, merged of a whole model.
        absent: parts of the pipeline that a merged model goes without, which diffusers wants to be told.
    """

    name: str
    family: str
    source: str
    layout: str
    origin: Origin
    options: Mapping[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


def card_of(one: Exported) -> str:
    """The card as Markdown, with the head that model pages read."""
    origin = one.origin
    told = _merged(one) if one.layout == "merged" else _adapter(one)
    sections = [
        _head(one), f"# {_plain(origin.title)}", _plain(description_of(origin)), *told,
        "## Settings", _list(_settings(one)), "## What it learned from", _list(_lessons(origin)),
        "## Licence", _licence(origin),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _head(one: Exported) -> str:
    tags = ["text-to-image", "flowgrpo"] + ([] if one.layout == "merged" else ["lora"])
    lines = ["---", "library_name: diffusers", "pipeline_tag: text-to-image", f"tags: [{', '.join(tags)}]"]
    if programs.is_on_the_hub(one.source):
        lines.append(f"base_model: {one.source.partition('@')[0]}")
    return "\n".join([*lines, "---"])


def _adapter(one: Exported) -> list[str]:
    stem = one.name.removesuffix(".safetensors")
    readers = programs.readers_of(one.family, one.layout)
    places = [
        f"{program.name}: put it into `{program.folder}`, then "
        f"`{program.snippet.format(file=one.name, name=stem)}`"
        for program in readers
        if program.folder
    ]
    return ["## Load it", _python(one), "## Where it goes", _list(places)]


def _python(one: Exported) -> str:
    if not any(program.name == "diffusers" for program in programs.readers_of(one.family, one.layout)):
        return (
            f"diffusers does not read kohya's layout of {one.family}, and draws the base without a word: for "
            "it, export with `--layout diffusers`."
        )
    code = "\n".join(programs.lines(one.family, one.source, one.name, one.options))
    return f"```python\n{code}\n```{_beside(one)}"


def _beside(one: Exported) -> str:
    if programs.is_on_the_hub(one.source):
        return "\n\nIts strength is in the file: scale 1 is what was trained."
    return (
        "\n\nThe base lies beside this file here; give its whole path where yours is. The strength is in the "
        "file: scale 1 is what was trained."
    )


def _merged(one: Exported) -> list[str]:
    code = "\n".join(programs.merged_lines(one.family, one.name, one.absent))
    where = [f"{program}: put it into `{folder}`" for program, folder in programs.CHECKPOINTS.items()]
    if not one.name.endswith(".safetensors"):
        where = ["A folder of diffusers: anywhere, loaded by its path"]
    return [
        "The adapter is in the weights: nothing but this is needed.",
        "## Load it", f"```python\n{code}\n```", "## Where it goes", _list(where),
    ]  # fmt: skip


def _settings(one: Exported) -> Iterable[str]:
    origin = one.origin
    if origin.size:
        yield f"Size: {origin.size[0]} x {origin.size[1]}, as it was trained"
    if origin.drawn:
        yield f"Steps: {origin.drawn['steps']:g} while it learned; more may be finer"
        yield f"Guidance: {origin.drawn['guidance']:g}" + (
            ", which is none: it learned to do without" if origin.drawn["guidance"] <= 1 else ""
        )
    yield "Sampler: Euler" + (" (or DDIM, which is the same steps)" if one.family in UNETS else "")
    if origin.prediction == "v":
        yield "Prediction: v"
    if one.layout != "merged":
        yield "Strength: 1"


def _lessons(origin: Origin) -> Iterable[str]:
    known = origin.training
    if not origin.is_tuned_here:
        yield "It was imported: what taught it is not known here"
        return
    parent = _plain(str(known.get("parent_checkpoint") or origin.base))
    yield f"Run: {_plain(str(known.get('run', '')))}, update {known.get('update', 0)}, from {parent}"
    if known.get("algorithm"):
        rate, seed = known["learning_rate"], known["seed"]
        yield f"Algorithm: {known['algorithm']}, learning rate {rate:g}, seed {seed}"
    named = f", set {_plain(origin.prompt_set)}" if origin.prompt_set else ""
    yield f"Prompts: {origin.num_prompts:,}{named}"
    if known.get("rewards"):
        yield "Rewards: " + ", ".join(
            f"{_plain(name)} {weight:g}" for name, weight in known["rewards"].items()
        )
    for how, count in origin.votes.items():
        yield f"Votes: {count:,}, {_WAYS.get(how, how)}"


def _licence(origin: Origin) -> str:
    return f"Of the base, {_plain(origin.base)}: {_plain(origin.licence) if origin.licence else NOT_KNOWN}."


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _plain(text: str) -> str:
    """Words of people, which are no Markdown and stay in their line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
