"""The reward stack of a run or a worker: several rewards over one batch, shared forwards, honest gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from safetensors import SafetensorError

from flowgrpo.rewards import registry
from flowgrpo.rewards.base import Reward, ScoreBatch, ScoreResult, unscored
from flowgrpo.rewards.cache import ScoreCache, score_with
from flowgrpo.rewards.checks import FailedRewardError, foreign_errors
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.isolated import IsolatedReward
from flowgrpo.rewards.remote import RemoteReward
from flowgrpo.rewards.wanted import bare

EMBEDDED: Final = ("verifier", "clip", "quality", "diversity")
"""The rewards that come with the starter. The judge is not among them: it must never reward."""
_LOADING = (ImportError, LookupError, OSError, RuntimeError, SafetensorError, ValueError)


class RewardStack:
    """Rewards under their names.

    Attributes:
        rewards: Those that work.
        unavailable: Name -> why, for those that were asked for and could not be loaded.
        cache: Asked before an image is scored by a reward of the image and its prompt alone. None while a run
            learns: an encoder's last bits depend on the images beside one, and a resumed run is bit-exact.
    """

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        unavailable: Mapping[str, str] | None = None,
        cache: ScoreCache | None = None,
    ) -> None:
        self.rewards = dict(rewards)
        self.unavailable = dict(unavailable or {})
        self.cache = cache
        self.is_interrupted = False

    @property
    def versions(self) -> dict[str, str]:
        """Name -> version, as a score row keeps it."""
        versions = {name: reward.spec.version for name, reward in self.rewards.items()}
        return versions | dict.fromkeys(self.unavailable, "unavailable")

    def score(self, batch: ScoreBatch) -> dict[str, ScoreResult]:
        """One column per reward that was asked for. Never raises for a reward's sake.

        Raises torch.OutOfMemoryError: not the reward but the size of the batch is to blame.

        Where a reward raises, returns another number of values than there are images, or a value that is no
        number, its column is NaN there, with the reason.
        """
        results = {name: score_with(self.cache, reward, batch) for name, reward in self.rewards.items()}
        return results | {name: unscored(len(batch), reason) for name, reason in self.unavailable.items()}

    def ask_for_room(self, make_room: Callable[[], bool]) -> None:
        """Names who can free the device for rewards in processes of their own."""
        for reward in map(bare, self.rewards.values()):
            if isinstance(reward, IsolatedReward):
                reward.make_room = make_room

    def close(self) -> None:
        """Ends the processes of rewards that have one of their own; they start again when they score."""
        for reward in map(bare, self.rewards.values()):
            if isinstance(reward, IsolatedReward):
                reward.close()

    def interrupt(self) -> None:
        """From another thread: ends the waiting for rewards that others compute, for good. Images that these
        have not scored have no score; who asked must look at `is_interrupted` and not learn from that.
        """
        self.is_interrupted = True
        for reward in map(bare, self.rewards.values()):
            if isinstance(reward, IsolatedReward | RemoteReward):
                reward.interrupt()


def load_stack(
    names: Iterable[str], weights_folder: Path, device: str = "cpu", options: Options | None = None
) -> RewardStack:
    """The rewards of these names, from the registry.

    A reward that cannot be loaded goes into `unavailable`: its scores are NaN with the reason.

    Args:
        weights_folder: The starter's.
        options: What loading may do, where that is not the usual; its folder and device are not looked at.

    Raises:
        LookupError: No reward has such a name.
    """
    given = replace(options or Options(weights_folder), weights=weights_folder, device=device)
    rewards: dict[str, Reward] = {}
    unavailable: dict[str, str] = {}
    for name in dict.fromkeys(names):
        loaded = _loaded(name, given)
        if isinstance(loaded, str):
            unavailable[name] = loaded
        else:
            rewards[name] = loaded
    return RewardStack(rewards, unavailable)


def _loaded(name: str, options: Options) -> Reward | str:
    """The reward, or why there is none."""
    try:
        registry.about(name)
    except FailedRewardError as error:
        return str(error)
    try:
        return registry.load(name, options)
    except FailedRewardError as error:
        return str(error)
    except (*_LOADING, *foreign_errors()) as error:
        return f"the {name} reward could not be loaded: {error}"
