"""What the registry keeps of a reward: its card, its files and how to load it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from flowgrpo.rewards.base import Reward, RewardSpec
from flowgrpo.rewards.fetch import Options, Weights

Load = Callable[[RewardSpec, str, Options], Reward]
Needed = Callable[[str, Options], Sequence[Weights]]


def _no_weights(option: str, options: Options) -> Sequence[Weights]:
    return ()


@dataclass(frozen=True)
class Entry:
    """A reward that can be asked for."""

    card: Callable[[str, str], RewardSpec]
    """Name and option -> what is known before loading; the version is empty. LookupError for an option that
    makes no sense."""
    load: str | Load
    """Card, option and options -> the reward; or "module:function", imported when it is wanted."""
    weights: Needed = _no_weights
    """Option -> the files that do not come with the studio; ValueError when there are none of that name."""
    libraries: tuple[str, ...] = ()
    """Modules that must be installed."""
    device: Literal["any", "cpu"] = "any"
    """Where it can run; "cpu" for libraries that know nothing else."""
    options: str = ""
    """For people: what may stand behind a colon."""
    ask: Callable[[float], object] | None = None
    """Has a reward of others say what it is, within so many seconds, which makes its card; FailedRewardError
    where it does not. None where that is known without asking."""
