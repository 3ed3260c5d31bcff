"""The card of a data set: what the hub reads at its head, and what people want to know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flowgrpo.sharing.told import PER_TEST, PER_VALIDATION, SPLITS

FORMATS = ("pickapic", "hpd", "imagereward", "trl")
"""Folders of formats of others; the raw one is always there."""


@dataclass
class Facts:
    """What was counted on the way.

    Attributes:
        events: by status.
        kinds: of those that stand.
        pairs: by split.
        per_prompt: prompt hash to pairs.
        ties: pairs in which neither is better.
        agreeing, compared: twos of people who judged the same two images and agree, or did at all.
        missing: groups that are not in it since files of theirs are gone.
    """

    groups: int = 0
    images: int = 0
    missing: int = 0
    ties: int = 0
    agreeing: int = 0
    compared: int = 0
    events: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    per_prompt: Counter[str] = field(default_factory=Counter)
    annotators: set[str] = field(default_factory=set)


_COLLECTED = """## How it was collected

People saw the images of one prompt together, in the order of `index`, and said which is best, which of two is
better, how they rank, how many stars each deserves, or what is wrong with it. On the page Rate neither model
nor scores are shown: `is_blind` is true where a rating came from there, and null where that is not known.
People are keyed hashes; the key stays in the studio.

A pair is what one person thinks of two images of a group: a pair, a ranking, a best of the group (which beats
every other image shown) or unequal stars, in this order where they said several. Flags make no pair. What was
changed, taken back, said a second time or of a known question makes none either; `votes.jsonl` has it all the
same, with its `status`.

"""


def card(facts: Facts, files: Mapping[str, Sequence[str]], version: str, made_on: str) -> str:
    """The text of README.md.

    Args:
        files: format to the files of it that were written, by their place in the folder.
        version: of the program.
        made_on: the day.
    """
    return f"""{_head(files)}
# Ratings of generated images

Made on {made_on} by FlowGRPO Studio {version}. Licence: to be filled in; `license` above says `other`.

| | train | validation | test |
|---|---|---|---|
| prompts | {_row(facts.prompts)} |
| pairs | {_row(facts.pairs)} |

{facts.images:,} images in {facts.groups:,} groups. {len(facts.annotators):,} people gave
{facts.events.total():,} ratings, of which {facts.events["stands"]:,} stand ({_counts(facts.kinds)}).
The others: {_counts(_others(facts))}. {facts.ties:,} of the pairs are ties.

{_COLLECTED}## Agreement

{_agreement(facts)}

## Splits

By prompt, without regard to case and spacing: no prompt is in two splits. Prompts that the studio holds out
are in test; of the others {PER_TEST} in a hundred are, and {PER_VALIDATION} in validation, by a hash.

## Files

- `votes.jsonl`: every rating event (`schema_version` 1)
- `images.parquet`: every image; `images/`: PNG without metadata
{_files(files)}
## What is missing

- {facts.missing:,} groups whose image files are gone.
- The release under which a rating was given: `app_version` is the one that wrote this.
- Votes of blind comparisons of checkpoints, and scores of rewards. Notes of flags are in it as they were
  typed: read them before you give the folder away.
- ImageRewardDB's ratings of alignment and fidelity are not asked for: they are null.
"""


def _head(files: Mapping[str, Sequence[str]]) -> str:
    lines = ["---", "license: other", "task_categories:", "- text-to-image", "tags:", "- human-preferences"]
    lines.append("configs:")
    for name, of_config in _configs(files).items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in of_config:
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---"])


def _configs(files: Mapping[str, Sequence[str]]) -> dict[str, list[tuple[str, str]]]:
    """Name to split and file; files whose rows have another shape are a config of their own."""
    found: dict[str, list[tuple[str, str]]] = {}
    for form, paths in files.items():
        for path in paths:
            stem = path.rpartition("/")[2].split(".")[0]
            split, _, shape = stem.partition("_")
            name = "hpd_test" if form == "hpd" and split == "test" else form + (f"_{shape}" if shape else "")
            found.setdefault(name, []).append((split, path))
    found["images"] = [("train", "images.parquet")]
    return found


def _files(files: Mapping[str, Sequence[str]]) -> str:
    return "".join(f"- {form}: {', '.join(f'`{path}`' for path in paths)}\n" for form, paths in files.items())


def _row(counts: Mapping[str, int]) -> str:
    return " | ".join(f"{counts.get(split, 0):,}" for split in SPLITS)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or "none"


def _others(facts: Facts) -> dict[str, int]:
    return {name: count for name, count in facts.events.items() if name != "stands"}


def _agreement(facts: Facts) -> str:
    if not facts.compared:
        return "No two people judged the same two images, so nothing can be said of it."
    share = 100 * facts.agreeing / facts.compared
    return (
        f"Where two people judged the same two images, they said the same in {share:.0f}% of "
        f"{facts.compared:,} cases (better, worse or a tie; chance alone gives about a third to a half)."
    )
