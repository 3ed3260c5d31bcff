"""What each reward of a run may do: teach, hold an image back from praise, or only be watched.

A reward says itself what it is (`RewardSpec.kind`); the run says what it is used for. Where the two do not
fit, the run does not start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from flowgrpo.config import RunConfig
from flowgrpo.rewards.human import NAME as HUMAN
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.runs import exits
from flowgrpo.runs.scoring import DIVERSITY, Columns

_READER = "ocr"
"""Counts text that nobody asked for, whatever it is used for."""
_NO_JUDGE = {
    "gate": "is a gate and says only whether an image fails: name it in gates",
    "monitor": "is a monitor, of whose numbers none is better than another: name it in monitors",
    "reference": "holds an image against another one, and a sample grid has none: leave it out",
    "groupwise": "judges a group and no image, and the diversity of a grid is watched anyway: leave it out",
}
"""Kind of a reward to why it cannot judge sample grids."""


def weighted(config: RunConfig) -> list[str]:
    """The rewards that a run learns from."""
    return [name for name, weight in config.reward_weights.items() if weight]


def needed(config: RunConfig) -> list[str]:
    """The rewards without which a run must not go on: those that teach, and the gates."""
    return [*weighted(config), *config.gates]


def loaded(config: RunConfig) -> tuple[str, ...]:
    """Every reward that a run scores with, each once; the same in every process that shares it."""
    return tuple(dict.fromkeys((*needed(config), *config.monitors, DIVERSITY)))


def check(config: RunConfig, stack: RewardStack) -> None:
    """Whether every reward can do what the run wants of it.

    Raises:
        ValueError: one cannot: a gate with a weight, a reward as a gate, references alone.
        EndedError: one that the run needs is not available here.
    """
    for name in needed(config):
        if name in stack.unavailable:
            raise exits.EndedError(exits.REWARDS_FAILED, f"{stack.unavailable[name]}.")
    kinds = kinds_of(stack)
    for name in weighted(config):
        if kinds[name] in ("gate", "monitor"):
            raise ValueError(
                f"'{name}' is a {kinds[name]} and teaches nothing: take its weight away, "
                f"and name it in {kinds[name]}s"
            )
    for name in config.gates:
        if kinds[name] != "gate" or stack.rewards[name].spec.threshold is None:
            raise ValueError(
                f"'{name}' is no gate, since it has no value below which an image fails: "
                "name it in monitors, or give it a weight"
            )
    names = weighted(config)
    if names and all(kinds[name] == "reference" for name in names):
        raise ValueError(
            f"{', '.join(names)} only hold images to the base's, which the base does best: "
            "give a weight to something that there is to gain, or name a folder of "
            "wanted images in references"
        )


def check_judges(judges: RewardStack) -> None:
    """Whether everything that the run names as a judge can judge its sample grids.

    Raises:
        ValueError: one cannot: of an image alone it says nothing, or it changes while the run goes on.
        EndedError: one is not available here; without it nobody would see that a reward is exploited.
    """
    for name in (*judges.rewards, *judges.unavailable):
        if name.partition(":")[0] == HUMAN:
            raise ValueError(
                f"'{name}' cannot judge: it is fitted anew when people rate, and a judge stays the same from "
                "the first grid to the last: name it in monitors"
            )
    for reason in judges.unavailable.values():
        raise exits.EndedError(exits.REWARDS_FAILED, f"{reason}.")
    for name, kind in kinds_of(judges).items():
        if kind in _NO_JUDGE:
            raise ValueError(f"'{name}' cannot judge: it {_NO_JUDGE[kind]}")


def kinds_of(stack: RewardStack) -> dict[str, str]:
    """Name to kind, of the rewards that work."""
    return {name: reward.spec.kind for name, reward in stack.rewards.items()}


def holds_to_references(config: RunConfig, stack: RewardStack) -> bool:
    """Whether the base's images have to be drawn beside those of the policy."""
    kinds = kinds_of(stack)
    return any(kinds.get(name) == "reference" for name in (*weighted(config), *config.monitors))


def gate_failed(config: RunConfig, stack: RewardStack, columns: Columns) -> Tensor | None:
    """`(group, sample)`: where an image did not pass a gate; None without gates.

    It did not where it is below the threshold, and where the gate failed to score it: what nobody could look
    at is not praised. Where the gate abstains, it has nothing to forbid.
    """
    shut = [  # NaN is not below anything
        (columns.rewards[name] < _threshold(stack, name)) | columns.failed[name] for name in config.gates
    ]
    return torch.stack(shut).any(0) if shut else None


def role_metrics(config: RunConfig, stack: RewardStack, rewards: Mapping[str, Tensor]) -> dict[str, float]:
    """`gate/<name>`: share of the scored images that failed; `monitor/<name>`: mean; of both, the share
    without a score.
    """
    metrics: dict[str, float] = {}
    for name in (*config.gates, *config.monitors):
        scored = rewards[name][rewards[name].isfinite()]
        metrics[f"unscored_share/{name}"] = 1 - len(scored) / max(rewards[name].numel(), 1)
        if len(scored) and name in config.gates:
            metrics[f"gate/{name}"] = (scored < _threshold(stack, name)).double().mean().item()
        elif len(scored):
            metrics[f"monitor/{name}"] = scored.double().mean().item()
    return metrics


def detail_metrics(config: RunConfig, details: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
    """`detail/<reward>/<label>`: means of what monitors and `ocr` measure beside their value."""
    shown = [name for name in details if name in config.monitors or name.partition(":")[0] == _READER]
    means = {
        f"detail/{name}/{label}": numbers.double().mean().item()
        for name in shown for label, numbers in details[name].items()
    }  # fmt: skip
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _threshold(stack: RewardStack, name: str) -> float:
    threshold = stack.rewards[name].spec.threshold
    assert threshold is not None
    return threshold
