"""How a run that went wrong goes on: from earlier weights at half the rate, or once a person has decided."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from flowgrpo.config import RunConfig
from flowgrpo.guards import Alarm
from flowgrpo.learner import Learner
from flowgrpo.runs import exits
from flowgrpo.runs.journal import Journal
from flowgrpo.runs.patience import insist
from flowgrpo.runs.position import Position
from flowgrpo.runs.samples import grid_of
from flowgrpo.runs.saving import Saver, is_due
from flowgrpo.runs.watch import Watch, in_words
from flowgrpo.spikes import UsualNorm
from storage import checkpoints, runs
from storage.models import RunEvent

MAX_RETURNS = 1
"""How often a run goes back by itself; after that a person decides, or it ends."""
WORSE = 1.5
"""An alarm that was let pass counts again at this many times its size."""
CLEARED_AFTER = 10
"""Updates without an alarm after which it is no longer let pass."""
PAUSED, GO_BACK = "pause", "go_back"
"""Kinds of events: the question to a person, and one of the answers; the other is to resume."""


class Recovery:
    """The decisions of one attempt, a person's and its own."""

    def __init__(
        self,
        config: RunConfig,
        learner: Learner,
        position: Position,
        *,
        saver: Saver,
        watch: Watch,
        journal: Journal,
    ) -> None:
        self.config, self.learner, self.position = config, learner, position
        self.saver, self.watch, self.journal = saver, watch, journal
        self.db, self.run = saver.db, saver.run
        self._start = {name: weight.detach().cpu().clone() for name, weight in learner.parameters.items()}

    # The rate and the bound of the next step

    def prepare_step(self) -> None:
        """Sets the learning rate in force, and cuts gradients down to what is usual."""
        settings = self.config.update
        for group in self.learner.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(self.position.update) * self.position.rate
        bound = min(settings.max_grad_norm, self.position.usual_norm.bound)
        self.learner.config = settings.model_copy(update={"max_grad_norm": bound})

    # Going back

    def heal(self) -> None:
        """Goes back where an alarm asks for it and the run never did so before.

        Raises:
            EndedError: its gradients are not finite again.
        """
        wants = [alarm for alarm in self.watch.standing() if alarm.level == "back"]
        if not wants:
            return
        if self.position.returns < MAX_RETURNS:
            step = self.config.update.updates_per_rollout
            oldest = max(alarm.age * step for alarm in wants)
            self.return_by_itself(self.position.update - oldest, wants[0].sentence)
        elif any(alarm.name == "skips" for alarm in wants):
            raise exits.EndedError(exits.NOT_FINITE, exits.sentence(exits.NOT_FINITE))

    def return_by_itself(self, at_most: int, why: str) -> None:
        """Goes back to the newest checkpoint up to `at_most`, or to the start.

        Only checkpoints that the settings want count: a run that was stopped in between, and so has others,
        ends as one that was not.
        """
        self.position.returns += 1
        self._go_back([n for n in self.saver.updates() if n <= at_most and is_due(self.config, n)], why)

    def _go_back(self, choices: Sequence[int], why: str) -> None:
        found = ((update, self.saver.restore(update)) for update in choices)
        target, kept = next((one for one in found if one[1] is not None), (0, None))
        if kept is None:
            self._begin_again()
        position = self.position
        position.take_votes_of(kept or {})
        position.rate, position.usual_norm = position.rate / 2, UsualNorm()
        self.journal.record(position.update, self.watch.went_back(position.update, target, why))

    def _begin_again(self) -> None:
        self.learner.load_state({"update": 0, "rollouts": 0, "skipped": self.learner.skipped})
        self.learner.load_optimizer_tensors({})
        self.learner.start_from(self._start)

    # A person decides

    def decide(self) -> None:
        """Carries out what people decided since the checkpoint that this attempt goes on from."""
        history = [e for e in runs.events(self.db, self.run.id) if e.id > self.position.decided]
        pauses = [e for i, e in enumerate(history) if e.kind == PAUSED and _is_resumed(history[i:])]
        asked = [e for e in history if e.kind == GO_BACK]
        for event in [*pauses, *asked]:
            self.position.decided = max(self.position.decided, event.id)
        if asked:
            wanted = int((asked[-1].payload or {})["update"])
            self._go_back([n for n in self.saver.updates() if n <= wanted], "it was asked to")
            return
        for event in pauses:
            for alarm in (event.payload or {})["alarms"]:
                self.position.allowed[alarm["topic"]] = [alarm["size"], float(self.position.update)]

    def questions(self) -> list[Alarm]:
        """The alarms that a person has to decide on; those that were let pass are not, until they worsen or
        have been away for a while.
        """
        allowed, update = self.position.allowed, self.position.update
        standing = [alarm for alarm in self.watch.standing() if alarm.level != "warn"]
        for alarm in standing:
            if alarm.topic in allowed:
                allowed[alarm.topic][1] = float(update)
        for topic in [topic for topic, (_, last) in allowed.items() if update - last >= CLEARED_AFTER]:
            del allowed[topic]
        return [
            alarm
            for alarm in standing
            if alarm.topic not in allowed or alarm.size >= WORSE * allowed[alarm.topic][0]
        ]

    def ask(self, alarms: Sequence[Alarm]) -> exits.EndedError:
        """Writes the question into the run's history and returns the error that pauses it.

        The event names the alarms, the groups of the base and of now to look at, and the update to go back to
        where there is one; all that is saved before.
        """
        update = self.position.update
        shown = self._newest_grid()
        target = self._target(update - max(alarm.age for alarm in alarms))
        sentence = " ".join(dict.fromkeys(in_words(alarm) for alarm in alarms))
        payload = {
            "update": update,
            "alarms": [{"topic": alarm.topic, "size": alarm.size} for alarm in alarms],
            "base": [view.group.id for view in grid_of(self.db, self.run.id, 0)] if shown else [],
            "now": [view.group.id for view in grid_of(self.db, self.run.id, shown)] if shown else [],
            "shown": shown,
            "back_to": target,
        }
        write = partial(runs.record_event, self.db, self.run.id, self.run.attempt, PAUSED, sentence, payload)
        insist("pause", write)
        choices = (
            "go on as it is, stop here" if target is None else f"go on, go back to update {target}, or stop"
        )
        return exits.EndedError(
            exits.ALARM, f"{sentence} Compare its samples with the base's, then {choices}."
        )

    def _newest_grid(self) -> int:
        """The update of the newest whole grid after the base's; 0 where there is none."""
        updates = {
            m.update for m in runs.metrics_since(self.db, self.run.id, 0) if m.name.startswith("held_out/")
        }
        return max((update for update in updates if grid_of(self.db, self.run.id, update)), default=0)

    def _target(self, at_most: int) -> int | None:
        """The newest checkpoint from before the trouble, else the oldest, which has the least of it."""
        rows = checkpoints.checkpoints_of_run(self.db, self.run.id)
        made = [row.update for row in rows if row.state == "committed"]
        earlier = [update for update in made if update < self.position.update]
        sound = [update for update in earlier if update <= at_most]
        return max(sound) if sound else min(earlier, default=None)


def _is_resumed(history: Sequence[RunEvent]) -> bool:
    """Whether a person resumed the run after the first of these events: only people move it from rest."""
    return any(e.to_state == "queued" and e.from_state in ("paused", "stopped") for e in history)
