"""The ratings of a studio as a folder for other programs: all of it, or nothing; a few groups in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import cast

from flowgrpo.preferences.votes import latest
from flowgrpo.runs.votes import as_votes
from flowgrpo.sharing import hpd, imagereward, pickapic, raw, trl
from flowgrpo.sharing.card import FORMATS, Facts, card
from flowgrpo.sharing.pairs import Pair, pairs_of
from flowgrpo.sharing.told import Said, Shown, Split, Status, Told, split_of
from storage import blobs, exclusion, shared_ratings
from storage.disk import sync
from storage.engine import Database
from storage.errors import NotSavedError
from storage.judged import JudgedGroup
from storage.models import RatingEvent
from storage.partials import partial_of
from storage.rating_kinds import mark_of, said_in
from storage.ratings_current import not_undone
from storage.shared_ratings import SharedGroup, hashed
from storage.types import utc_now
from storage.version import VERSION

ALL = "all"
_PART = 50
"""Groups that are read at a time."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    facts: Facts


def checked_format(name: str) -> tuple[str, ...]:
    """The formats that a name means, beside the raw one, which is always written. ValueError for no name."""
    if name == ALL:
        return FORMATS
    if name == "raw":
        return ()
    if name not in FORMATS:
        raise ValueError(f"a format is {', '.join(FORMATS)}, raw or {ALL}, got {name}")
    return (name,)


def export_ratings(db: Database, folder: Path, form: str, tell: Tell = lambda _: None) -> Exported:
    """Writes the ratings of this moment to a folder that is not there yet; people may go on meanwhile.

    Args:
        form: one of FORMATS, "raw" or "all".
        tell: hears what is being written.

    Raises:
        ValueError: no such format, the folder is there, or nobody has rated anything.
        NotSavedError: the disk is full; nothing is left behind.
    """
    formats, folder = checked_format(form), folder.resolve()
    if folder.exists():
        raise ValueError(f"there is a {folder} already: choose a folder that is not there yet")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with partial_of(folder, is_folder=True) as partial:
            facts = _write(Ratings(db), partial, formats, tell)
            for path in (partial, *partial.rglob("*")):
                sync(path)
            partial.replace(folder)
            sync(folder.parent)
    except OSError as error:
        raise NotSavedError(
            f"No ratings were exported ({error}): free some space, then try again."
        ) from error
    return Exported(folder, facts)


def _write(ratings: Ratings, folder: Path, formats: tuple[str, ...], tell: Tell) -> Facts:
    tell("counting")
    facts = counted(ratings)
    if not facts.groups:
        raise ValueError("there are no ratings with images to export: rate some groups first")
    tell("images and raw votes")
    raw.write(folder, ratings.groups(), VERSION)
    for form in formats:
        tell(form)
        _WRITERS[form](folder / form, ratings.groups, facts.per_prompt)
    files = {form: _written(folder, form) for form in formats}
    text = card(
        facts, {form: paths for form, paths in files.items() if paths}, VERSION, str(utc_now().date())
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return facts


def _written(folder: Path, form: str) -> list[str]:
    order = ("train", "validation", "test")
    found = [path.relative_to(folder).as_posix() for path in (folder / form).glob("*.*")]
    return sorted(
        found,
        key=lambda path: ("unpaired" in path, order.index(path.split("/")[1].split(".")[0].split("_")[0])),
    )


_WRITERS: Mapping[str, Callable[[Path, Callable[[Split], Iterator[Told]], Mapping[str, int]], object]] = {
    "pickapic": pickapic.write,
    "hpd": lambda folder, groups, _: hpd.write(folder, groups),
    "imagereward": lambda folder, groups, _: imagereward.write(folder, groups),
    "trl": lambda folder, groups, _: trl.write(folder, groups),
}


class Ratings:
    """Every rated group as of one moment, read a few at a time, as often as it is asked for."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.upto = shared_ratings.last_number(db)
        self.key = shared_ratings.hashing_key(db)
        self.excluded = frozenset(exclusion.exclusions(db))
        held_out = shared_ratings.held_out_hashes(db)
        ids = shared_ratings.rated_group_ids(db, self.upto)
        self.splits: dict[str, Split] = {one: split_of(prompt, held_out) for one, prompt in ids}
        self.missing = 0
        """Groups that the last reading of all left out."""

    def groups(self, split: Split | None = None) -> Iterator[Told]:
        """Those of a split, or all; without those that have no image, or one whose file is gone."""
        ids = [one for one, its in self.splits.items() if split in (None, its)]
        missing = 0
        for start in range(0, len(ids), _PART):
            for shared in shared_ratings.shared_groups(self.db, ids[start : start + _PART], self.upto):
                told = self._told(shared)
                if told.images and all(image.path.is_file() for image in told.images):
                    yield told
                else:
                    missing += 1
        if split is None:
            self.missing = missing

    def _told(self, shared: SharedGroup) -> Told:
        group = shared.group
        statuses = status_of(shared, self.excluded)
        return Told(
            group.id, group.seq, group.prompt, group.prompt_hash, self.splits[group.id], shared.model,
            group.config, group.created_at, self._images(shared),
            tuple(self._said(event, statuses[event.id]) for event in shared.said),
        )  # fmt: skip

    def _images(self, shared: SharedGroup) -> tuple[Shown, ...]:
        return tuple(
            Shown(one.id, one.index, one.seed, one.width, one.height, blobs.path_of(self.db.home, one.sha256))
            for one in shared.images
        )

    def _said(self, event: RatingEvent, status: Status) -> Said:
        return Said(
            event.id, event.seq, hashed(self.key, event.annotator_id), event.kind, event.image_id,
            event.value, said_in(event.payload), event.lead_ms, event.created_at, event.act_id,
            event.supersedes_id, status,
        )  # fmt: skip


def status_of(shared: SharedGroup, excluded: frozenset[str]) -> dict[str, Status]:
    """Id of each event of a group to what became of it."""
    left = not_undone(shared.said)
    stands = {event.id for event in left}
    found: dict[str, Status] = {}
    for event in shared.said:
        mark = mark_of(event)
        if event.annotator_id in excluded:
            found[event.id] = "excluded"
        elif event.kind == "undo":
            found[event.id] = "undo"
        elif event.id not in stands:
            found[event.id] = "undone"
        elif mark:
            found[event.id] = cast(Status, mark)
    votes = [event for event in shared.said if event.id not in found]
    return found | _of_votes(shared, votes)


def _of_votes(shared: SharedGroup, votes: list[RatingEvent]) -> dict[str, Status]:
    """Which votes hold, by the rule that everybody learns by; a skip holds where it is the last word."""
    said = as_votes(votes, {shared.group.id: JudgedGroup(shared.group, shared.images)})
    holding = {id(vote) for kept in latest(said).values() for vote in kept}
    last = {event.annotator_id: event.id for event in votes}
    return {
        event.id: "stands"
        if id(vote) in holding or (event.kind == "skip" and last[event.annotator_id] == event.id)
        else "superseded"
        for event, vote in zip(votes, said, strict=True)
    }


def counted(ratings: Ratings) -> Facts:
    """What the ratings amount to."""
    facts, prompts = Facts(), set[str]()
    for told in ratings.groups():
        pairs = pairs_of(told)
        facts.groups += 1
        facts.images += len(told.images)
        facts.events.update(one.status for one in told.said)
        facts.kinds.update(one.kind for one in told.said if one.status == "stands")
        facts.annotators.update(one.annotator for one in told.said)
        facts.pairs[told.split] += len(pairs)
        facts.per_prompt[told.prompt_hash] += len(pairs)
        facts.prompts[told.split] += told.prompt_hash not in prompts
        facts.ties += sum(pair.label == 0.5 for pair in pairs)
        prompts.add(told.prompt_hash)
        agreeing, compared = _agreement(pairs)
        facts.agreeing += agreeing
        facts.compared += compared
    facts.missing = ratings.missing
    return facts


def _agreement(pairs: list[Pair]) -> tuple[int, int]:
    """Of one group: twos of people who say the same of the same two images, and all who judged both."""
    said: dict[tuple[str, str], list[float]] = {}
    for pair in pairs:
        is_sorted = pair.first.id < pair.second.id
        key = (pair.first.id, pair.second.id) if is_sorted else (pair.second.id, pair.first.id)
        said.setdefault(key, []).append(pair.label if is_sorted else 1 - pair.label)
    twos = Counter(a == b for labels in said.values() for a, b in combinations(labels, 2))
    return twos[True], twos.total()
