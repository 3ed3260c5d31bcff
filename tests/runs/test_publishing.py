"""Cards of the studio's own rewards are there at once, whatever plug-ins do; theirs follow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowgrpo.rewards import registry
from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.rewards.entry import Entry
from flowgrpo.rewards.fetch import Options
from flowgrpo.runs.publishing import RewardCards
from flowgrpo.runs.reward_options import options_for
from flowgrpo.runs.worker import WEIGHTS
from storage import scores
from storage.engine import Database
from tests.flowgrpo.rewards.test_plugins import package
from tests.runs.test_reward_options import CARD


class Plug:
    """A plug-in that answers once it is let, and not within a card's time."""

    def __init__(self) -> None:
        self.is_let = threading.Event()
        self.waited: list[float] = []

    def ask(self, seconds: float) -> None:
        self.waited.append(seconds)
        if not self.is_let.wait(0.3 if seconds < 60 else 30):
            raise FailedRewardError(f"it did not answer within {seconds:g} s")


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    made = Plug()
    entry = Entry(lambda *_: CARD, "nowhere:load", ask=made.ask)
    monkeypatch.setattr(registry, "REGISTRY", registry.REGISTRY | {"given": entry})
    yield made
    made.is_let.set()


def state(db: Database, name: str = "given") -> object:
    return scores.reward_cards(db)[name]["state"]


def cards_of(db: Database, ending: threading.Event | None = None) -> RewardCards:
    return RewardCards(db, options_for(db, WEIGHTS), (ending or threading.Event()).is_set)


def test_a_plug_in_that_hangs_holds_up_nothing_and_may_come_late(db: Database, plug: Plug) -> None:
    cards = cards_of(db)
    cards.publish()
    assert state(db, "clip") == "here"
    assert scores.reward_cards(db)["given"]["weights"] == "it has not said yet what it is"
    assert not cards.join(0.0)
    cards.publish()  # does not wait for it either
    plug.is_let.set()
    assert cards.join(30.0)
    assert state(db) == "here"
    assert plug.waited[0] == 20.0


def test_who_does_not_answer_is_disabled_and_asked_once_more_with_patience(db: Database, plug: Plug) -> None:
    ending = threading.Event()
    cards = cards_of(db, ending)
    cards.publish()
    while len(plug.waited) < 2:
        ending.wait(0.02)
    card = scores.reward_cards(db)["given"]
    assert (card["state"], card["weights"]) == ("unavailable", "disabled: it did not answer within 20 s")
    plug.is_let.set()
    assert cards.join(30.0)
    assert (state(db), plug.waited) == ("here", [20.0, 300.0])


def test_a_restart_shows_what_was_known_until_a_plug_in_answers_again(db: Database, plug: Plug) -> None:
    plug.is_let.set()
    first = cards_of(db)
    first.publish()
    assert first.join(30.0)
    plug.is_let.clear()
    second = cards_of(db)
    second.publish()
    assert state(db) == "here"
    plug.is_let.set()
    assert second.join(30.0)


def test_a_process_that_ends_asks_no_more(db: Database, plug: Plug) -> None:
    ending = threading.Event()
    ending.set()
    cards = cards_of(db, ending)
    cards.publish()
    assert cards.join(30.0)
    assert (state(db), plug.waited) == ("not asked", [])


def test_a_module_that_never_comes_to_an_end_is_given_up_after_the_cards_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    package(tmp_path, "slow", "slow = slow:plugin")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not registry.is_ours("slow")
    card = registry.card("slow", Options(WEIGHTS), seconds=0.5)
    assert card["weights"] == "disabled: the slow reward did not answer within 0.5 s"
