"""What rewards may use while they load, as a data folder has it: one answer for all that load any. And what
somebody has to accept before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flowgrpo.rewards import registry
from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.rewards.fetch import Options
from flowgrpo.runs import layout
from flowgrpo.runs.heads import head_in_use
from storage import notices
from storage.engine import Database


def options_for(db: Database, weights: Path, device: str = "cpu") -> Options:
    """The folder's fetched weights, the preference head that is in use, and the notices that were accepted.

    Args:
        weights: The starter's folder.
        device: Where encoders run.
    """
    return Options(
        weights, device, cache=layout.rewards_folder(db.home), head=head_in_use(db),
        accepted=notices.accepted_notices(db.home),
    )  # fmt: skip


def accept_reward(db: Database, reward: str, say: Callable[[str], object], ask: Callable[[], bool]) -> bool:
    """Shows the notice of a reward, and keeps it where the answer is yes; returns whether it may be used.

    Args:
        reward: Its name; what stands behind a colon is not looked at.

    Raises:
        LookupError: There is no such reward, or it is a plug-in that is broken.
        NotSavedError: The disk is full or cannot be written.
    """
    try:
        card = registry.about(reward.partition(":")[0])
    except FailedRewardError as error:
        raise LookupError(f"{reward} cannot be used: {error}") from error
    if not card.notice:
        say(f"{card.name} has no notice: there is nothing to accept.")
        return True
    say(card.notice)
    if not ask():
        return False
    notices.accept_notice(db.home, card.name, card.notice_sha256)
    say(f"Noted: {card.name} may be used.")
    return True
