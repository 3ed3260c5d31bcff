"""`human`: what people who rated would like: the preference head on frozen features of the image.

Values are utilities over the head's spread, so that a group of the base varies by about 1 whatever the votes
were: of two images, the one that is higher by d is preferred with probability sigmoid(spread d). How loud it
is beside other rewards is `preferences.head.trust`'s matter.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from flowgrpo.preferences.head import Basis, Head
from flowgrpo.rewards.base import Abstained, RewardSpec, ScoreBatch, ScoreResult, scored, unscored
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.encoders import clip_for
from flowgrpo.rewards.eye import Eye
from flowgrpo.rewards.fetch import Options, Unavailable
from flowgrpo.tensorfile import read_tensors, write_tensors

NAME: Final = "human"
NOTHING_LEARNED: Final = Abstained("nothing has been learned from votes yet: rate some groups")
_TENSORS: Final = ("mean", "scale", "axes", "weights", "covariance")


class HumanReward:
    """Utilities of images for the people whose votes the head has seen."""

    def __init__(self, head: Head, eye: Eye, card: RewardSpec = CARDS[NAME]) -> None:
        self.head, self.eye = head, eye
        self.spec = replace(card, version=f"{head.version} {eye.name}")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """The head's utility of every image, in spreads."""
        seen, _ = self.eye.see(batch)
        return scored(torch.from_numpy(self.head.utility(seen) / max(self.head.spread, 1e-6)))


def save_head(head: Head, eye: str, path: Path) -> None:
    """Writes a head as safetensors, whole or not at all.

    Args:
        eye: name of what its images were seen with.
    """
    basis = head.basis
    arrays = (basis.mean, basis.scale, basis.axes, head.weights, head.covariance)
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(array))
        for name, array in zip(_TENSORS, arrays, strict=True)
    }
    facts = {"widths": basis.widths, "variances": head.variances, "spread": head.spread, "eye": eye}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    write_tensors(partial, tensors, {"head": json.dumps(facts)})
    partial.rename(path)


def load_head(path: Path) -> tuple[Head, str]:
    """A head and the name of the eye that it belongs to.

    Raises LookupError where there is no file, ValueError for one that is no head or damaged.
    """
    tensors, metadata = read_tensors(path)
    if set(tensors) != set(_TENSORS) or "head" not in metadata:
        raise ValueError(f"{path.name} is no preference head: fit one again from the votes")
    facts = json.loads(metadata["head"])
    mean, scale, axes, weights, covariance = (tensors[name].double().numpy() for name in _TENSORS)
    basis = Basis(mean, scale, axes, tuple(facts["widths"]))
    return Head(basis, weights, covariance, tuple(facts["variances"]), facts["spread"]), facts["eye"]


def load(card: RewardSpec, option: str, options: Options) -> HumanReward:
    """For the registry. Option: the encoder that it looks through, as `encoders.clip_for` takes it."""
    if options.head is None:
        raise Unavailable("nothing has been learned from votes yet: rate some groups, then fit a head")
    head, name = load_head(options.head)
    eye = Eye(clip_for(option, options), options.device)
    if eye.name != name:
        raise Unavailable(f"the head was fitted on {name}, and this is {eye.name}: fit it again")
    return HumanReward(head, eye, card)


class Taste:
    """`human` where the head changes while it is in use: in a run that people rate, in a worker.

    Without a head it abstains: nobody has taught it anything yet.
    """

    def __init__(self, eye: Eye) -> None:
        self.eye = eye
        self.path: Path | None = None
        """Of the head in use."""
        self._reward: HumanReward | None = None

    @property
    def spec(self) -> RewardSpec:
        """Its version is that of the head in use."""
        return self._reward.spec if self._reward else replace(CARDS[NAME], version="no head yet")

    def use(self, path: Path | None) -> None:
        """Takes a head that `save_head` wrote, or none.

        Raises LookupError or ValueError where it cannot be read, or was fitted through another eye.
        """
        if path == self.path:
            return
        if path is None:
            self._reward, self.path = None, None
            return
        head, name = load_head(path)
        if name != self.eye.name:
            raise Unavailable(f"the head was fitted on {name}, and this is {self.eye.name}: fit it again")
        self._reward, self.path = HumanReward(head, self.eye), path

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Utilities, or why there are none."""
        return self._reward.score(batch) if self._reward else unscored(len(batch), NOTHING_LEARNED)
