"""The loop of a run: sample groups, score them, turn scores into advantages, update, note, save."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch

from flowgrpo import lora
from flowgrpo.advantages import calibrate, combine
from flowgrpo.config import RunConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import load_policy
from flowgrpo.rewards.stack import load_stack
from flowgrpo.rollout import Progress, Rollout, denoise, rollout_settings
from flowgrpo.running import Buffers, RunningStatistics
from flowgrpo.runs import exits, layout, samples
from flowgrpo.runs.device import Turns
from flowgrpo.runs.failpoints import failpoint
from flowgrpo.runs.generation import BrokenImagesError
from flowgrpo.runs.journal import Journal
from flowgrpo.runs.patience import attempt_write
from flowgrpo.runs.prompts import prompts_of_rollout
from flowgrpo.runs.saving import Saver
from flowgrpo.runs.scoring import DIVERSITY, Columns, measured, reward_metrics, score, update_metrics
from flowgrpo.runs.shelf import checked_folder
from flowgrpo.runs.watch import Watch
from flowgrpo.seeds import group_seeds
from flowgrpo.update import UpdateMetrics, update
from storage import checkpoints, runs
from storage.engine import Database
from storage.errors import UNAVAILABLE
from storage.locks import GaveUpError
from storage.models import Checkpoint, Run

CALIBRATION_GROUPS = 6
"""Groups of the base that fix each reward's usual spread within a group, before the first update."""
MAX_SKIPPED = 3
"""Updates in a row without a finite gradient, after which the run ends."""
MAX_UNSCORED = 3
"""Rollouts in a row of which no image has a score by a reward that counts, after which the run ends."""
BEAT_SECONDS = 1.0
NO_GRID: tuple[type[Exception], ...] = (LookupError, *UNAVAILABLE)
"""Errors that cost a sample grid and nothing else."""
_log = logging.getLogger(__name__)


@dataclass
class Position:
    """Where a run stands; all of it, and nothing that depends on the clock, goes into every checkpoint."""

    update: int = 0
    """Optimiser updates done."""
    rollout: int = 0
    """Rollouts done; noise and prompts follow from it."""
    skipped_in_a_row: int = 0
    unscored_in_a_row: int = 0
    calibrated_stds: dict[str, float] | None = None
    """Each reward's usual std within a group of the base; one that has scored nothing yet is absent."""
    running: Buffers = field(default_factory=dict)
    """The prompts' last rewards, where advantages come from running statistics."""


class Trainer:
    """One attempt of one run.

    Args:
        stop: set when the run should end at the next safe point.

    Raises:
        LookupError, ValueError: the base, the parent checkpoint or a reward cannot be used.
    """

    def __init__(
        self,
        db: Database,
        run: Run,
        config: RunConfig,
        *,
        device: torch.device,
        weights: Path,
        stop: threading.Event,
    ) -> None:
        self.db, self.run, self.config, self.stop = db, run, config, stop
        self.turns = Turns(db.home, device, stop.is_set)
        self._beat_at = 0.0
        self._seconds_per_update: float | None = None
        self.position = Position()
        self._beat("loading")
        self.parent = checkpoints.get_checkpoint(db, run.parent_checkpoint_id)
        self.policy = load_policy(checkpoints.base_of(db, self.parent).source, device=device)
        assert config.lora is not None
        self.policy.attach_lora(config.lora, seed=config.seed)
        self.learner = Learner(self.policy, config.update, config.algorithm)
        _start_from(db, self.learner, self.parent)
        self.stack = load_stack(dict.fromkeys([*_weighted(config), DIVERSITY]), weights, str(device))
        for name in _weighted(config):
            if name in self.stack.unavailable:
                raise exits.EndedError(exits.REWARDS_FAILED, f"{self.stack.unavailable[name]}.")
        self.saver = Saver(db, run, self.learner)
        self.watch = Watch(db, run)
        self.journal = Journal(db, run.id, run.attempt, layout.run_folder(db.home, run.id) / "metrics.jsonl")

    def train(self) -> None:
        """Runs to the last update, or ends early.

        Raises:
            EndedError: stopped at a safe point, or unable to go on; what was done is saved.
        """
        found = self.saver.resume()
        if found is not None:
            self.position = Position(**found[1])
            _log.info("goes on from update %d", self.position.update)
        self.journal.catch_up(self.position.update)
        self.watch.recall(self.position.update)
        try:
            self._calibrate()
            self._sample_grid()
            while self.position.update < self.config.num_updates:
                self._one_rollout()
                failpoint("train.updated")
                self._save_if_due()
                self._sample_grid()
        except (_StopRequestedError, GaveUpError):
            self._save()
            self._leave()
            sentence = (
                f"Stopped at update {self.position.update} of {self.config.num_updates}; it can be resumed."
            )
            raise exits.EndedError(exits.STOPPED, sentence) from None
        self._leave()

    def _leave(self) -> None:
        self.journal.flush(must=True)
        self.saver.write_rows(must=True)
        self._beat("done", now=True)

    # Sampling and scoring

    def _calibrate(self) -> None:
        """Measures how much each reward usually varies within a group of the base."""
        if self.position.calibrated_stds is not None:
            return
        with self.turns.turn(), self.policy.reference():
            rollouts = self._rollouts(0, CALIBRATION_GROUPS, "measuring the rewards on the base")
            columns = score(self.stack, rollouts)
        self.position.calibrated_stds = calibrate(columns.rewards)
        self.watch.gaps(columns.reasons)
        weighted = _weighted(self.config)
        if not any(name in self.position.calibrated_stds for name in weighted):
            why = "; ".join(columns.reasons.get(name, name) for name in weighted)
            raise exits.EndedError(exits.REWARDS_FAILED, f"No reward could score the base's images: {why}.")
        for name in [name for name in weighted if name not in self.position.calibrated_stds]:
            self.watch.warn(f"{name} could not score the base's groups: it takes part once it scores one.")

    def _calibrate_late(self, number: int, columns: Columns) -> None:
        """Measures rewards that score for the first time, as at the start: on the base, at these prompts."""
        stds = self.position.calibrated_stds
        assert stds is not None
        late = [n for n in _weighted(self.config) if n not in stds and columns.rewards[n].isfinite().any()]
        if not late:
            return
        with self.policy.reference():
            rollouts = self._rollouts(number, self.config.rollout.groups_per_update, "measuring late rewards")
            on_base = score(self.stack, rollouts)
        found = calibrate({name: on_base.rewards[name] for name in late})
        self.position.calibrated_stds = stds | found
        for name in found:
            self.watch.warn(
                f"{name} scored its first group in rollout {number} and takes part from there on."
            )

    def _rollouts(self, number: int, num_groups: int, phase: str) -> list[Rollout]:
        """The groups of rollout `number`; 0 is the calibration, the first update's is 1."""
        config = self.config
        prompts = prompts_of_rollout(config.prompts, config.seed, max(number - 1, 0), num_groups)
        rollouts: list[Rollout] = []
        for index, prompt in enumerate(prompts):
            seeds = group_seeds(config.seed, number, index, config.rollout.group_size)
            settings = rollout_settings(
                config.rollout, config.update.micro_batch_size, config.seed, number, index
            )
            for progress in denoise(self.policy, [prompt] * len(seeds), seeds=seeds, **settings):
                self._tick(f"{phase}: group {index + 1} of {num_groups}")
                if progress.rollout is not None:
                    rollouts.append(progress.rollout)
        return rollouts

    # The update

    def _one_rollout(self) -> None:
        """One rollout and its optimiser updates; a stop before the first of them leaves no trace."""
        started = time.perf_counter()
        number = self.position.rollout + 1
        with self.turns.turn():
            with self.learner.behaviour():
                rollouts = self._rollouts(number, self.config.rollout.groups_per_update, "sampling")
            sampled = time.perf_counter()
            self._beat("scoring", now=True)
            columns = score(self.stack, rollouts)
            self.watch.gaps(columns.reasons)
            self._calibrate_late(number, columns)
            scored = time.perf_counter()
            assert self.position.calibrated_stds is not None
            advantages = combine(
                measured(columns.rewards, self.position.calibrated_stds),
                self.config.reward_weights,
                self.position.calibrated_stds,
                diversity=columns.rewards.get(DIVERSITY),
                clip=self.config.update.advantage_clip,
                config=self.config.advantages,
                running=self._running(rollouts),
            )
            shares = {n: v for n, v in advantages.metrics.items() if n.startswith("unscored_share/")}
            metrics = (
                reward_metrics(columns.rewards, self.config.reward_weights)
                | shares
                | {
                    "advantage/mean": advantages.metrics["advantage_mean"],
                    "advantage/std": advantages.metrics["advantage_std"],
                    "groups/dead_share": advantages.metrics["dead_group_share"],
                    "seconds/rollout": sampled - started,
                    "seconds/reward": scored - sampled,
                }
            )
            is_touched = False
            for step in update(self.learner, rollouts, advantages):
                if isinstance(step, Progress):
                    self._tick(f"updating: {step.done} of {step.total}", may_stop=not is_touched)
                else:
                    is_touched = True
                    self._note(step, metrics)
        self.position.rollout, self.position.running = number, advantages.buffers
        self._time(time.perf_counter() - started)
        self._end_without_scores(columns)

    def _running(self, rollouts: list[Rollout]) -> RunningStatistics | None:
        """What the prompts of these groups were given before, where advantages come from that."""
        settings = self.config.advantages
        if settings.std != "running":
            return None
        prompts = [rollout.prompts[0] for rollout in rollouts]
        return RunningStatistics(prompts, self.position.running, settings.buffer_size, settings.min_count)

    def _end_without_scores(self, columns: Columns) -> None:
        """Ends the run when its rewards have been silent for too long; nothing can be learned any more."""
        position, weighted = self.position, _weighted(self.config)
        is_scored = any(columns.rewards[name].isfinite().any() for name in weighted)
        position.unscored_in_a_row = 0 if is_scored else position.unscored_in_a_row + 1
        if position.unscored_in_a_row < MAX_UNSCORED:
            return
        silent, position.unscored_in_a_row = position.unscored_in_a_row, 0  # a resumed run tries as often
        self._save()
        self._leave()
        why = "; ".join(columns.reasons.get(name, name) for name in weighted)
        sentence = (
            f"No reward scored an image in {silent} rollouts in a row: {why}. "
            f"Everything up to update {position.update} is saved: mend the reward and resume, or start a "
            "run with other prompts from there."
        )
        raise exits.EndedError(exits.REWARDS_FAILED, sentence)

    def _note(self, step: UpdateMetrics, metrics: dict[str, float]) -> None:
        """Counts an optimiser update, whether it moved anything or not, and writes its numbers."""
        self.position.update += 1
        noted = metrics | update_metrics(step)
        self.journal.record(self.position.update, noted)
        self.watch.follow(self.position.update, noted)
        self.position.skipped_in_a_row = self.position.skipped_in_a_row + 1 if step.is_skipped else 0
        if step.is_skipped:
            self.watch.warn(f"Update {self.position.update} was skipped: its gradient was not finite.")
        if self.position.skipped_in_a_row >= MAX_SKIPPED:
            raise exits.EndedError(exits.NOT_FINITE, exits.sentence(exits.NOT_FINITE))

    def _time(self, seconds: float) -> None:
        each = seconds / self.config.update.updates_per_rollout
        before = self._seconds_per_update
        self._seconds_per_update = each if before is None else 0.7 * before + 0.3 * each
        self._beat("updating", now=True)

    # Checkpoints and sample grids

    def _save_if_due(self) -> None:
        position, every = self.position, self.config.checkpoint_every
        before = position.update - self.config.update.updates_per_rollout
        if position.update // every > max(before, 0) // every or position.update >= self.config.num_updates:
            self._save()

    def _save(self) -> None:
        if self.position.update > 0:
            self._beat("saving", now=True)
            self.saver.commit(self.position.update, vars(self.position))
        self.journal.flush()

    def _sample_grid(self) -> None:
        number = self.position.update
        if not samples.is_due(self.config, number) or samples.is_drawn(self.db, self.run, number):
            return
        weights = self.policy.weights(self.learner.ema) if number else nullcontext()
        try:
            with self.turns.turn(), weights:
                metrics = samples.draw(
                    self.db, self.run, self.config, number,
                    policy=self.policy, stack=self.stack, checkpoint_id=self._shown_checkpoint(),
                    tick=lambda: self._tick("drawing samples"),
                )  # fmt: skip
        except BrokenImagesError as error:
            self.watch.warn(f"No sample grid at update {number}: {error}")
            return
        except NO_GRID as error:
            _log.warning("no sample grid at update %d: %s", number, error)
            return
        self.journal.record(number, metrics)
        self.watch.follow(number, metrics)

    def _shown_checkpoint(self) -> str:
        """The checkpoint that the grid shows, where this update has one, else the run's parent."""
        made = checkpoints.checkpoints_of_run(self.db, self.run.id)
        here = [c.id for c in made if c.update == self.position.update and c.state == "committed"]
        return here[0] if here else self.parent.id

    # Signs of life

    def _tick(self, phase: str, *, may_stop: bool = True) -> None:
        """After each network call: beats, gives way on the device, and stops when that is safe."""
        if may_stop and self.stop.is_set():
            raise _StopRequestedError
        self._beat(phase)
        self.turns.give_way(may_give_up=may_stop)

    def _beat(self, phase: str, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._beat_at < BEAT_SECONDS:
            return
        self._beat_at = time.monotonic()
        is_current = attempt_write(
            "beat",
            lambda: runs.beat(
                self.db, self.run.id, self.run.attempt,
                update=self.position.update or None, num_updates=self.config.num_updates, phase=phase,
                seconds_per_update=self._seconds_per_update,
            ),
        )  # fmt: skip
        if is_current is False:
            raise exits.EndedError(exits.STOPPED, "The run has moved on to another attempt.")


class _StopRequestedError(Exception):
    """Raised at a point where nothing is half done."""


def _weighted(config: RunConfig) -> list[str]:
    return [name for name, weight in config.reward_weights.items() if weight]


def _start_from(db: Database, learner: Learner, parent: Checkpoint) -> None:
    """Begins with the parent's adapter when the parent is no base."""
    if parent.path is None:
        return
    theirs, tensors = lora.load(checked_folder(db, parent), "ema")
    ours = learner.policy.lora_config
    assert ours is not None
    if theirs != ours:
        raise ValueError(
            f"{parent.name} has an adapter of rank {theirs.rank} and this run one of rank {ours.rank} "
            "or with other targets: use the same LoRA settings, or start from the base"
        )
    learner.start_from(tensors)
