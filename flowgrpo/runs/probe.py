"""A measured step of a run before it starts: one micro-batch through every phase, on the device itself.

Nothing of it is kept: it learns on an adapter of its own, in memory.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from flowgrpo.advantages import Advantages
from flowgrpo.budget import disk_of
from flowgrpo.checkpoint import save_checkpoint
from flowgrpo.config import RunConfig
from flowgrpo.learner import Learner
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import load_stack
from flowgrpo.rollout import Rollout
from flowgrpo.runs.experience import CALIBRATION_GROUPS
from flowgrpo.runs.roles import loaded
from flowgrpo.runs.sources import Pictures
from flowgrpo.runs.team import make_policy, make_source
from flowgrpo.runs.wanted import hold_to_wanted
from flowgrpo.update import update
from flowgrpo.work import rows_of


@dataclass(frozen=True)
class Probe:
    """What one micro-batch took.

    Attributes:
        images: in it.
        loading, saving: seconds to load base and rewards, and to save a checkpoint.
        rollout, reward, update: seconds of each phase.
        peak_bytes: of the device's memory while it went on; on a CPU of this whole process.
        checkpoint_bytes: of a checkpoint's folder.
    """

    images: int
    loading: float
    rollout: float
    reward: float
    update: float
    saving: float
    peak_bytes: int
    checkpoint_bytes: int


@dataclass(frozen=True)
class Duration:
    """Seconds of a run: phase to seconds of one update, and what else there is once or now and then."""

    update: Mapping[str, float]
    total: float


def probe(
    config: RunConfig, base: str, options: Mapping[str, str], device: torch.device, rewards: Options
) -> Probe:
    """Loads everything that the run would, and does one micro-batch twice: the first only warms up.

    Args:
        options: How the base is read, where its files do not say.
        rewards: What rewards may use while they load.

    Raises LookupError, ValueError or OSError where something that the run needs cannot be had.
    """
    small = _one_micro_batch(config)
    started = time.perf_counter()
    learner = Learner(make_policy(small, base, options, device), small.update, small.algorithm)
    stack = load_stack(loaded(small), rewards.weights, str(device), rewards)
    hold_to_wanted(small, stack)
    source = make_source(small, learner, stack)
    loading = _since(started, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for number in (1, 2):
        size = small.update.micro_batch_size
        sampling = time.perf_counter()
        rollouts = source.rollouts(number, 1, size, _quiet)
        rollout, scoring = _since(sampling, device), time.perf_counter()
        if not isinstance(source, Pictures):
            source.score(rollouts, 1)
        reward, learning = _since(scoring, device), time.perf_counter()
        for _ in update(learner, rollouts, _some_advantages(rollouts)):
            pass
        taught = _since(learning, device)
    saving, written = _save(learner, device)
    return Probe(
        len(rollouts[0].seeds), loading, rollout, reward, taught, saving, _peak(device), written
    )  # fmt: skip


def duration_of(config: RunConfig, measured: Probe) -> Duration:
    """How long the run takes if every micro-batch takes what the measured one took."""
    rollout, every = config.rollout, config.update.updates_per_rollout
    is_sampled = config.algorithm.name != "sft"
    images = rollout.group_size * rollout.groups_per_update if is_sampled else _batch_size(config)
    share = images / measured.images
    phases = {
        "rollout": measured.rollout * share / every,
        "reward": measured.reward * share / every,
        "update": measured.update * share,
    }
    written = disk_of(config, measured.checkpoint_bytes)
    besides = CALIBRATION_GROUPS * rollout.group_size + written.num_pictures if is_sampled else 0
    others = (
        measured.loading
        + measured.saving * written.num_checkpoints
        + (measured.rollout + measured.reward) * besides / measured.images
    )
    return Duration(phases, config.num_updates * sum(phases.values()) + others)


def _batch_size(config: RunConfig) -> int:
    return int(getattr(config.algorithm, "batch_size", 1))


def _one_micro_batch(config: RunConfig) -> RunConfig:
    """The same run with one small group."""
    rows, _ = rows_of(config)
    size = config.rollout.group_size if config.algorithm.name == "dpo" else max(rows, 2)  # a pair of a group
    rollout = config.rollout.model_copy(update={"group_size": size, "groups_per_update": 1})
    changes: dict[str, object] = {
        "rollout": rollout,
        "update": config.update.model_copy(update={"updates_per_rollout": 1}),
    }
    if config.algorithm.name == "sft":
        changes["algorithm"] = config.algorithm.model_copy(update={"batch_size": rows})
    return config.model_copy(update=changes)


def _some_advantages(rollouts: list[Rollout]) -> Advantages:
    """As much work as real ones: no sample is left out."""
    values = torch.linspace(-1, 1, len(rollouts[0].seeds))[None]
    return Advantages(values, torch.ones_like(values, dtype=torch.bool), torch.zeros(1, dtype=torch.bool))


def _save(learner: Learner, device: torch.device) -> tuple[float, int]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        save_checkpoint(Path(folder) / "000001", learner, {})
        seconds = _since(started, device)
        return seconds, sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _since(started: float, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _quiet(phase: str) -> None:
    del phase
