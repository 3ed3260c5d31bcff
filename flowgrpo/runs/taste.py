"""The reward `human` of a run: refitted between updates when people have said more, quieter until then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flowgrpo.config import RunConfig
from flowgrpo.rewards.encoders import clip_for
from flowgrpo.rewards.eye import Eye
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.human import NAME, Taste
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.runs import exits, heads
from flowgrpo.runs.position import Position
from storage import snapshots
from storage.engine import Database
from storage.models_judging import PreferenceFit, VoteSnapshot

_SILENT: Final = (
    "The run learns from people alone, and their votes say nothing yet that holds for images it has not "
    "seen. {} Rate more groups and resume, or give another reward a weight."
)


def human_reward(config: RunConfig) -> str | None:
    """The name under which a run learns from votes: `human`, or with an encoder behind a colon."""
    names = [name for name, weight in config.reward_weights.items() if weight]
    return next((name for name in names if name.partition(":")[0] == NAME), None)


def taste_for(name: str, weights: Path, device: str) -> Taste:
    """The reward of that name, without a head yet; LookupError where its encoder is not here."""
    _, _, option = name.partition(":")
    return Taste(Eye(clip_for(option, Options(weights, device=device)), device))


class Follower:
    """Keeps a run's `human` reward at what people have said.

    Attributes:
        fit: the head in use; None while there is none.
        news: what the last `refresh` has to tell people; empty where there is nothing.
    """

    def __init__(self, db: Database, config: RunConfig, position: Position, taste: Taste, name: str) -> None:
        self.db, self.config, self.position = db, config, position
        self.taste, self.name = taste, name
        self.fit: PreferenceFit | None = None
        self.news = ""
        self._votes = ""

    def refresh(self) -> dict[str, float]:
        """Fits anew where there are new votes, or others count; returns what the curves show of it."""
        votes = snapshots.stamp(self.db)
        if votes != self._votes:
            self._votes = votes
            self._fit_anew()
        self._follow_people()
        if self.fit is None:
            return {"head/loudness": 0.0}
        accuracy = {"head/accuracy": self.fit.accuracy} if self.fit.accuracy is not None else {}
        return {"head/loudness": self.loudness(), "head/pairs": float(self.fit.num_pairs), **accuracy}

    def _fit_anew(self) -> None:
        """Not where somebody took every head back: new votes do not undo that."""
        if self._is_withdrawn():
            return
        try:
            fit = heads.fit_head(self.db, self.taste.eye)
        except ValueError:  # nothing in the votes compares images that are here, or there are none any more
            return
        self._take(fit)

    def _follow_people(self) -> None:
        """Takes the head that is in use now: somebody may have fitted another one, or taken it back.

        One that looks through another encoder than this run's is none for it; the run keeps its own.
        """
        in_use = snapshots.applied_fit(self.db, "head")
        self.news = self._why_withdrawn() if self.fit is not None and in_use is None else ""
        if in_use is None:
            self.fit = None
            self.taste.use(None)
        elif in_use.detail["eye"] == self.taste.eye.name and (self.fit is None or in_use.id != self.fit.id):
            self._take(in_use)

    def _is_withdrawn(self) -> bool:
        """Whether a person took the head back; one that lost all of its votes may be followed by another."""
        last = snapshots.last_moved_fit(self.db, "head")
        in_use = snapshots.applied_fit(self.db, "head")
        return last is not None and in_use is None and "why" not in last.detail

    def _why_withdrawn(self) -> str:
        last = snapshots.last_moved_fit(self.db, "head")
        why = str(last.detail["why"]) if last is not None and "why" in last.detail else ""
        return f"The run learns from no preference head now. {why}" if why else ""

    def _take(self, fit: PreferenceFit) -> None:
        if self.position.head is None or self.position.head["snapshot"] != fit.snapshot_id:
            self.position.head = {"snapshot": fit.snapshot_id, "update": self.position.update}
        self.fit = fit
        self.taste.use(heads.path_of(self.db, fit))

    def loudness(self) -> float:
        """Share of its weight that the head has now."""
        if self.fit is None or self.position.head is None:
            return 0.0
        return heads.loudness(self.fit, self.position.update - self.position.head["update"])

    def weights(self) -> dict[str, float]:
        """The run's weights as they hold now.

        Raises:
            EndedError: nothing else has a weight, and the head is silent.
        """
        loud = dict(self.config.reward_weights)
        loud[self.name] *= self.loudness()
        if not any(loud.values()):
            raise exits.EndedError(exits.REWARDS_FAILED, _SILENT.format(self._why_silent()))
        return loud

    def _why_silent(self) -> str:
        if self.fit:
            return heads.in_words(self.fit)
        if self._is_withdrawn():
            return "The head that was fitted to them has been withdrawn; it can be applied again."
        return self._why_withdrawn() or "Nobody has rated anything."

    def learned(self) -> None:
        """Notes that an update was made with the head, where it is not silent."""
        if self.loudness() > 0:
            self.position.followed = self.votes()

    def votes(self) -> dict[str, Any] | None:
        """What a checkpoint says of the votes behind the head."""
        if self.fit is None:
            return None
        return {"snapshot": self.fit.snapshot_id, "hash": self.fit.detail["snapshot_hash"],
                "groups": self.fit.detail["num_groups"], "fit": self.fit.id}  # fmt: skip


def follower_of(
    db: Database, config: RunConfig, position: Position, stack: RewardStack, weights: Path, device: str
) -> Follower | None:
    """Puts `human` among a run's rewards, where it has a weight; None where it has none."""
    name = human_reward(config)
    if name is None:
        return None
    taste = taste_for(name, weights, device)
    stack.rewards[name] = taste
    stack.unavailable.pop(name, None)
    return Follower(db, config, position, taste, name)


def votes_behind(db: Database, config: RunConfig, kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """The votes that a checkpoint has learned from, as its row names them.

    Votes teach a head, are asked for in the loop, or were fitted by the weights. Where they do more than one
    of these, the first is named as it is, and the others under `in_the_loop` and `weights`.

    Args:
        kept: where the run stood, as the checkpoint keeps it (`Position.to_json`).
    """
    if config.ratings is not None:
        return _named(snapshots.get_snapshot(db, config.ratings.snapshot))
    asked = _named(snapshots.snapshot_of(db, kept["heard"])) if kept.get("heard") else None
    weighed = _weighed(db, config.weights_from) if config.weights_from else None
    sources = {"head": kept.get("followed"), "in_the_loop": asked, "weights": weighed}
    found = {name: one for name, one in sources.items() if one}
    if not found:
        return None
    first = next(iter(found))
    return found.pop(first) | found


def _weighed(db: Database, fit_id: str) -> dict[str, Any]:
    fit = snapshots.get_fit(db, fit_id)
    return {"snapshot": fit.snapshot_id, "hash": fit.detail["snapshot_hash"], "fit": fit.id}


def _named(snapshot: VoteSnapshot) -> dict[str, Any]:
    return {"snapshot": snapshot.id, "hash": snapshot.hash, "votes": len(snapshot.events)}
