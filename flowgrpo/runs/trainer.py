"""The run itself: rollout, rewards, advantages, update, checkpoint, until it is done or someone says stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from flowgrpo.config import RunConfig
from flowgrpo.failpoints import failpoint
from flowgrpo.learner import Learner
from flowgrpo.rewards.stack import load_stack
from flowgrpo.rollout import Progress
from flowgrpo.runs import exits, layout, memory, roles, samples
from flowgrpo.runs.asked import obey
from flowgrpo.runs.audience import audience_of
from flowgrpo.runs.beats import STOP_SECONDS, Beats, PauseRequestedError, StopRequestedError, interrupting
from flowgrpo.runs.device import Turns
from flowgrpo.runs.experience import Experience, Gatherer
from flowgrpo.runs.generation import BrokenImagesError
from flowgrpo.runs.journal import Journal
from flowgrpo.runs.position import Position
from flowgrpo.runs.rated import source_of
from flowgrpo.runs.recovery import MAX_RETURNS, Recovery
from flowgrpo.runs.residence import Residence
from flowgrpo.runs.reward_options import options_for
from flowgrpo.runs.roles import weighted
from flowgrpo.runs.saving import NotFiniteError, Saver, is_due
from flowgrpo.runs.scoring import Columns, update_metrics
from flowgrpo.runs.stalls import WAITS
from flowgrpo.runs.starting import start_from
from flowgrpo.runs.taste import follower_of, votes_behind
from flowgrpo.runs.team import Lead, Setup, make_policy
from flowgrpo.runs.wanted import hold_to_wanted
from flowgrpo.runs.watch import Watch
from flowgrpo.update import UpdateMetrics, update
from flowgrpo.world import World
from storage import checkpoints
from storage.engine import Database
from storage.errors import UNAVAILABLE
from storage.locks import GaveUpError
from storage.models import Run

MAX_UNSCORED = 3
"""Rollouts in a row of which no image has a score by a reward that counts, after which the run ends."""
NO_GRID: tuple[type[Exception], ...] = (LookupError, *UNAVAILABLE)
"""Errors that cost a sample grid and nothing else."""
_NOTHING_HELD_OUT = "No score is left that this run is not rewarded by"
_log = logging.getLogger(__name__)


class Trainer:
    """One attempt of one run.

    Args:
        stop: set when the run should end at the next safe point.

    Attributes:
        residence: its place on the device, where an engine may be a guest; None where all may be there.

    Raises:
        LookupError, ValueError: the base, the parent checkpoint or a reward cannot be used.
    """

    residence: Residence | None = None

    def __init__(
        self,
        db: Database,
        run: Run,
        config: RunConfig,
        *,
        device: torch.device,
        weights: Path,
        stop: threading.Event,
        world: World | None = None,
    ) -> None:
        self.db, self.run, self.config, self.stop = db, run, config, stop
        self.position, self.turns = Position(), Turns(db.home, device, stop.is_set)
        self.beats = Beats(db, run, self.position, config.num_updates, self.turns, stop)
        self.beats.say("loading")
        self.parent = checkpoints.get_checkpoint(db, run.parent_checkpoint_id)
        base = checkpoints.base_of(db, self.parent)
        self.policy = make_policy(config, base.source, base.options or {}, device, world)
        self.learner = Learner(self.policy, config.update, config.algorithm, world)
        self.lead = Lead(self.learner)
        start_from(db, self.learner, self.parent)
        names = roles.loaded(config)
        options = options_for(db, weights, str(device))
        self.stack = load_stack(names, weights, str(device), options)
        people = follower_of(db, config, self.position, self.stack, weights, str(device))
        if (people or config.people) and self.learner.world.size > 1:
            raise ValueError(
                "This run learns between its updates from votes that one process reads: launch it in one "
                "process, or take people and human away."
            )
        hold_to_wanted(config, self.stack)
        roles.check(config, self.stack)
        judges = samples.judges_of(base.name, config, options)
        if config.judges:
            roles.check_judges(judges)
        self.grids = samples.Grids(
            db, run, config, self.policy, self.stack, judges, lambda: self.beats.tick("drawing samples")
        )
        self.watch = Watch(db, run, tuple(judges.rewards))
        self.journal = Journal(db, run.id, run.attempt, layout.run_folder(db.home, run.id) / "metrics.jsonl")
        source = source_of(db, config, self.learner, self.stack)
        self.gatherer = Gatherer(
            config, source, self.position, lead=self.lead, watch=self.watch, beats=self.beats, people=people,
            audience=audience_of(db, run, config, self.parent.id, self.position, self.beats, self.watch),
        )  # fmt: skip
        self.saver = Saver(db, run, self.learner, votes=partial(votes_behind, db, config))
        self.recovery = Recovery(
            config, self.learner, self.position, saver=self.saver, watch=self.watch, journal=self.journal
        )
        self.lead.begin(Setup(config, base.source, base.options or {}, options, names))

    def train(self) -> None:
        """Runs to the last update, or ends early.

        Raises:
            EndedError: stopped at a safe point, paused by an alarm, or unable to go on; what was done is
                saved.
        """
        try:
            # Other processes would go on with scores that are missing here.
            watched = interrupting(self.stop, self.stack, STOP_SECONDS)
            judged = interrupting(self.stop, self.grids.judges, STOP_SECONDS)
            with watched if self.lead.is_alone else nullcontext(), judged:
                self._train()
        except exits.EndedError:
            self.lead.end()
            raise
        self.lead.end()

    def _train(self) -> None:
        self._take_up()
        try:
            self._begin()
            while self.position.update < self.config.num_updates:
                self._stop_if_asked()
                obey(self.beats, self._save, self._sample_now)
                if self._fits(self._one_rollout, "rollout"):
                    failpoint("train.updated")
                    self._heal()
                    self._save_if_due()
                    self._fits(self._sample_grid, "sample grid")
                    self._ask_if_needed()
                    if self.residence and self.lead.is_alone:  # it has been at its peak by now
                        self.residence.let_in()
        except (StopRequestedError, GaveUpError) as why:
            self._save()
            self._leave()
            is_pause = isinstance(why, PauseRequestedError)
            code, verb = (exits.PAUSED, "Paused on request") if is_pause else (exits.STOPPED, "Stopped")
            sentence = (
                f"{verb} at update {self.position.update} of {self.config.num_updates}; it can be resumed."
            )
            raise exits.EndedError(code, sentence) from None
        self._leave()

    def _stop_if_asked(self) -> None:
        if self.stop.is_set():
            raise StopRequestedError

    def _take_up(self) -> None:
        """Goes on from the newest checkpoint of earlier attempts, and does what people decided since."""
        found = self.saver.resume()
        if found is not None:
            self.position.restore(found[1])
            _log.info("goes on from update %d", self.position.update)
        self._count_processes(is_new=found is None)
        self.journal.catch_up(self.position.update)
        self.watch.recall(self.journal.history(self.position.update))
        self.recovery.decide()
        self.lead.take()

    def _count_processes(self, *, is_new: bool) -> None:
        before, now = self.position.processes, self.learner.world.size
        self.position.processes = now
        if not is_new and before != now:
            self.watch.warn(
                f"From update {self.position.update} on the run is shared by {now} processes instead of "
                f"{before}: prompts, seeds and batch are the same, and the sums of gradients are rounded in "
                "another order, so the weights are not bit for bit those of a run that never changed."
            )

    def _begin(self) -> None:
        while not self._fits(self._calibrate, "measurement of the base"):
            pass
        self._fits(self._sample_grid, "sample grid")
        if self.config.samples and not self.watch.is_judged:
            names = ", ".join(self.config.judges)
            why = f"None of the judges ({names}) scored the base" if names else _NOTHING_HELD_OUT
            self.watch.warn(f"{why}, so its samples are watched for diversity and looks only.")
        self._ask_if_needed()

    def _leave(self) -> None:
        self.journal.flush(must=True)
        self.saver.write_rows(must=True)
        self.beats.say("done", now=True)

    def _fits(self, work: Callable[[], None], what: str) -> bool:
        """Does some work; False when memory ran out in it, with less to carry for the next try.

        Raises:
            EndedError: memory runs out however small the pieces are.
        """
        try:
            work()
        except memory.ERRORS as error:
            if not memory.is_shortage(error):
                raise
            if not self.lead.is_alone:  # the other processes are in the midst of the same work
                reason = memory.what_to_lower(self.config, self.gatherer.micro_batch)
                raise exits.EndedError(exits.OUT_OF_MEMORY, reason) from error
            _log.warning("out of memory: %s", error)
        else:
            self.position.shortages = 0
            return True
        memory.free()  # not before the error, which holds what the work held, has gone
        waits = partial(self.beats.say, f"{WAITS} for the engine to make room")
        if self.residence and self.residence.send_away(self.stop.is_set, waits):
            self.watch.warn(
                f"The {what} after update {self.position.update} ran out of memory beside the engine, which "
                "has made room and stays away until the run ends: it is tried again."
            )
            return False
        try:
            follows = memory.after_shortage(self.position, self.config)
        except exits.EndedError:
            self._save()
            self._leave()
            raise
        self.watch.warn(f"The {what} after update {self.position.update} ran out of memory: {follows}.")
        return False

    # One rollout and its updates

    def _calibrate(self) -> None:
        if self.position.calibrated_stds is not None:
            return
        with self.turns.turn():
            self._note(0, self.gatherer.calibrate())

    def _one_rollout(self) -> None:
        """One rollout and its optimiser updates; a stop before the first of them leaves no trace."""
        started, number = time.perf_counter(), self.position.rollout + 1
        with self.turns.turn():
            try:
                gathered = self.gatherer.gather(number)
                self._learn(gathered)
            except memory.ERRORS:
                self.position.rollout = number  # the next try is another one
                raise
        self.position.rollout, self.position.running = number, gathered.running
        self.beats.time((time.perf_counter() - started) / self.config.update.updates_per_rollout)
        if gathered.columns:
            self._end_without_scores(gathered.columns)

    def _learn(self, gathered: Experience) -> None:
        own = self.gatherer.source.share_of(gathered.advantages, gathered.rollouts)
        may_stop = self.lead.is_alone
        self.lead.learn(gathered.advantages)
        self.recovery.prepare_step()
        with self.lead.together():
            for step in update(self.learner, gathered.rollouts, own):
                if isinstance(step, Progress):
                    may_stop = may_stop and not step.is_halfway
                    self.beats.tick(f"updating: {step.done} of {step.total}", may_stop=may_stop)
                else:
                    may_stop = False
                    self._count(step, gathered.metrics)
                    self.recovery.prepare_step()

    def _count(self, step: UpdateMetrics, metrics: dict[str, float]) -> None:
        """Counts an optimiser update, whether it moved anything or not, and writes its numbers."""
        usual = self.position.usual_norm
        self.position.update += 1
        if not step.is_skipped:
            self.gatherer.learned()
        self.position.usual_norm = usual.after(step.grad_norm)
        noted = metrics | update_metrics(step, usual.bound)
        is_overflow = step.is_skipped and self.policy.dtype == torch.float16 and self.learner.loss_scale >= 1
        if is_overflow:  # the loss scale was too large and has been halved: nothing is wrong
            noted["policy/skipped"] = 0.0
        self._note(self.position.update, noted)
        if step.is_skipped and not is_overflow:
            self.watch.warn(f"Update {self.position.update} was skipped: its gradient was not finite.")

    def _note(self, update: int, metrics: dict[str, float]) -> None:
        self.journal.record(update, metrics)
        self.watch.follow(update, metrics)

    def _end_without_scores(self, columns: Columns) -> None:
        """Ends the run when its rewards have been silent for too long; nothing can be learned any more."""
        position, names = self.position, weighted(self.config)
        is_scored = any(columns.rewards[name].isfinite().any() for name in names)
        position.unscored_in_a_row = 0 if is_scored else position.unscored_in_a_row + 1
        if position.unscored_in_a_row < MAX_UNSCORED:
            return
        silent, position.unscored_in_a_row = position.unscored_in_a_row, 0  # a resumed run tries as often
        self._save()
        self._leave()
        why = "; ".join(columns.reasons.get(name, name) for name in names)
        sentence = (
            f"No reward scored an image in {silent} rollouts in a row: {why}. "
            f"Everything up to update {position.update} is saved: mend the reward and resume, or start a "
            "run with other prompts from there."
        )
        raise exits.EndedError(exits.REWARDS_FAILED, sentence)

    def _heal(self) -> None:
        try:
            self._may_return(self.recovery.heal)
        except exits.EndedError:
            self._leave()
            raise

    def _may_return(self, work: Callable[[], None]) -> None:
        """Does what may put earlier weights back, and has the other processes take them too."""
        before = self.position.returns
        work()
        if self.position.returns > before:
            self.lead.take()

    # Checkpoints, sample grids, questions

    def _save_if_due(self) -> None:
        if is_due(self.config, self.position.update):
            self._save()

    def _save(self) -> None:
        """Commits a checkpoint; weights that are not finite send the run back instead, once.

        Raises:
            EndedError: they are so again; the last checkpoint is intact.
        """
        if self.position.update > 0:
            self.beats.say("saving", now=True)
            try:
                self.saver.commit(self.position.update, self.position.to_json())
            except NotFiniteError as error:
                if self.position.returns >= MAX_RETURNS:
                    raise exits.EndedError(exits.NOT_FINITE, str(error)) from error
                why = "its weights were not finite"
                self._may_return(lambda: self.recovery.return_by_itself(self.position.update, why))
        self.journal.flush()

    def _sample_grid(self) -> None:
        number = self.position.update
        if samples.is_due(self.config, number):
            self._draw_grid(number)

    def _sample_now(self) -> None:
        self._fits(lambda: self._draw_grid(self.position.update), "sample grid")

    def _draw_grid(self, number: int) -> None:
        """The grid of this update, unless it is there."""
        if samples.grid_of(self.db, self.run.id, number):
            return
        weights = self.policy.weights(self.learner.ema) if number else nullcontext()
        try:
            with self.turns.turn(), weights:
                metrics = self.grids.draw(number, self._shown_checkpoint(), self.gatherer.micro_batch)
        except BrokenImagesError as error:
            self.watch.warn(f"No sample grid at update {number}: {error}")
            return
        except NO_GRID as error:
            _log.warning("no sample grid at update %d: %s", number, error)
            return
        self.watch.notes(self.grids.warnings)
        self.watch.gaps(self.grids.gaps)
        self._note(number, metrics)

    def _shown_checkpoint(self) -> str:
        """The checkpoint that the grid shows, where this update has one, else the run's parent."""
        made = checkpoints.checkpoints_of_run(self.db, self.run.id)
        here = [c.id for c in made if c.update == self.position.update and c.state == "committed"]
        return here[0] if here else self.parent.id

    def _ask_if_needed(self) -> None:
        """Pauses the run, with a checkpoint and a fresh picture, where an alarm needs a person.

        Raises:
            EndedError: it does; everything is saved.
        """
        if self.position.update >= self.config.num_updates or not self.recovery.questions():
            return
        self._save()
        if self.config.samples and self.position.update:
            self._sample_now()
        self._leave()
        raise self.recovery.ask(self.recovery.questions())
