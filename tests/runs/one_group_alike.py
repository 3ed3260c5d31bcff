"""The trainer's process, where all images of one prompt are worth the same: its groups are dead.

python -m tests.runs.one_group_alike --home H RUN_ID ATTEMPT
"""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rollout import Rollout
from flowgrpo.runs import scoring, sources, train
from flowgrpo.world import leave

PROMPT = "glasses"


def score(stack: RewardStack, rollouts: Sequence[Rollout]) -> scoring.Columns:
    """The stack's scores, but for that prompt."""
    columns = scoring.score(stack, rollouts)
    for index, rollout in enumerate(rollouts):
        if rollout.prompts[0] == PROMPT:
            for column in columns.rewards.values():
                column[index] = 0.5
    return columns


if __name__ == "__main__":
    with mock.patch.object(sources, "score", score):
        leave(train.main())
