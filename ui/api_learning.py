"""The public API of learning from people: a head from their votes, a run from their rated groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowgrpo.config import MAX_SEED
from storage import jobs
from ui import cards, learning
from ui.forms import whole
from ui.guarding import caller
from ui.services import Services

Endpoint = Callable[..., Any]
Said = Callable[[Callable[[], Any]], Any]
"""Turns what a page would show into an API error."""


def endpoints(services: Services, said: Said) -> list[Endpoint]:
    """Every endpoint of this file, by its public name."""
    return [
        _request_head(services, said),
        _learn_from_ratings(services, said),
        _list_rewards(services, said),
        _accept_notice(services, said),
    ]


def _list_rewards(services: Services, said: Said) -> Endpoint:
    def list_rewards() -> list[dict[str, Any]]:
        """Returns the card of every reward that the engine knows on this machine: what it measures, its range
        and licence, its size, and whether its weights are here; [] until an engine has started. Some have a
        "notice" and are used only once it is "accepted"."""
        return list(said(lambda: list(cards.reward_cards(services.db).values())))

    return list_rewards


def _accept_notice(services: Services, said: Said) -> Endpoint:
    def accept_notice(name: str, sha256: str) -> dict[str, Any]:
        """Notes that you accept the notice of a reward, and returns its card.

        Args:
            name: of the reward, as list_rewards has it.
            sha256: its "notice_sha256": of the text that you read, so that no other is accepted.
        """
        return dict(said(lambda: cards.accept(services.db, name, sha256)))

    return accept_notice


def _request_head(services: Services, said: Said) -> Endpoint:
    def request_head() -> dict[str, Any]:
        """Fits a preference head to all votes so far and puts it in use; returns the job, ask get_job for
        its result: accuracy on choices that it has not seen, comparisons, loudness, the snapshot of votes. It
        also says which groups would teach it the most, and those are offered first. Runs that weigh "human"
        fit one by themselves."""

        def work() -> dict[str, Any]:
            job = jobs.request_job(services.db, "fit_head", {}, caller(services.db).id)
            return {"id": job.id, "state": job.state}

        return dict(said(work))

    return request_head


def _learn_from_ratings(services: Services, said: Said) -> Endpoint:
    def learn_from_ratings(
        checkpoint: str,
        algorithm: str = "nft",
        num_updates: int = 60,
        seed: int = 0,
        name: str = "",
    ) -> dict[str, Any]:
        """Queues a run that draws nothing and learns from all rated groups that checkpoints of the same base
        model made; the answer's "left_out" counts the rated groups of other ones.

        Args:
            checkpoint: id to start from.
            algorithm: "nft", "awm", "rwr" or "dpo".
            num_updates: optimiser updates, each on four rated groups.
            seed: of its noise.
            name: what the run is called.
        """

        def work() -> dict[str, Any]:
            updates = whole(num_updates, "Updates", 1, 100_000)
            start = whole(seed, "The seed", 0, MAX_SEED)
            started = learning.start(
                services, checkpoint, algorithm, updates, start, name, who=caller(services.db).id
            )
            run = started.run
            return {"id": run.id, "number": run.number, "name": run.name, "state": run.state,
                    "snapshot": run.config["ratings"]["snapshot"], "left_out": started.left_out}  # fmt: skip

        return dict(said(work))

    return learn_from_ratings
