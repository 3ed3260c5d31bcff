"""What came of a revealed blind test: who was preferred and how sure that is, prompt by prompt, and whether
the side swayed anybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from flowgrpo.preferences.intervals import Interval, ratio_by_cluster, wilson
from storage import blind, blind_pairs, judged, lineage
from storage.blind import BlindJudgement
from storage.models_judging import BlindTest
from ui.components import render
from ui.language import counted, t
from ui.media import thumb_url
from ui.services import Services

FEW = 50
"""Votes below which a result is called preliminary, as on the leaderboard."""


@dataclass(frozen=True)
class Duel:
    """Two checkpoints of a test.

    Attributes:
        name: whose share it is; `against` the other one.
        share: of votes that preferred it, ties and "neither" as halves, with its interval over prompts.
    """

    name: str
    against: str
    share: Interval
    wins: int
    losses: int
    ties: int
    bad: int
    prompts: int

    @property
    def votes(self) -> int:
        """All of them."""
        return self.wins + self.losses + self.ties + self.bad

    @property
    def words(self) -> str:
        """The result in one sentence."""
        low, high = round(100 * self.share.low), round(100 * self.share.high)
        about = ", ".join(
            [
                t("blind.interval", low=low, high=high),
                counted("blind.votes", self.votes),
                counted("blind.prompts", self.prompts),
            ]
        )
        return t("blind.preferred", name=self.name, share=round(100 * self.share.value), about=about)

    @property
    def verdict(self) -> str:
        """What may be concluded."""
        if self.share.low > 0.5:
            return t("blind.people_prefer", name=self.name)
        if self.share.high < 0.5:
            return t("blind.people_prefer", name=self.against)
        return t("blind.undecided")

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves a half out."""
        return self.share.low > 0.5 or self.share.high < 0.5


@dataclass(frozen=True)
class PromptRow:
    """One prompt.

    Attributes:
        cells: a checkpoint each: the address of its picture, and the share of its votes in percent; None
            where nobody voted.
    """

    prompt: str
    votes: int
    cells: Sequence[tuple[str, int | None]]


def duels(said: Sequence[BlindJudgement], checkpoints: Sequence[str], names: Mapping[str, str]) -> list[Duel]:
    """Every two checkpoints that met, the later one of the test held against the earlier one."""
    found = []
    for against, one in combinations(checkpoints, 2):
        met = [vote for vote in said if {vote.first, vote.second} == {one, against}]
        if met:
            found.append(_duel(met, one, names[one], names[against]))
    return found


def _duel(met: Sequence[BlindJudgement], one: str, name: str, against: str) -> Duel:
    worth = [_worth(vote, one) for vote in met]
    outcomes = Counter(
        "win" if win == 1 else "loss" if win == 0 else vote.outcome
        for vote, win in zip(met, worth, strict=True)
    )
    rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(vote.prompt_hash for vote in met))}
    of, to = np.zeros(len(rows)), np.zeros(len(rows))
    for vote, win in zip(met, worth, strict=True):
        of[rows[vote.prompt_hash]] += win
        to[rows[vote.prompt_hash]] += 1
    share = ratio_by_cluster(of, to, trials=len(met))
    return Duel(
        name, against, share, outcomes["win"], outcomes["loss"], outcomes["tie"], outcomes["bad"], len(rows)
    )


def _worth(vote: BlindJudgement, checkpoint_id: str) -> float:
    """1 where the vote preferred this checkpoint, 0 where the other one, a half where neither."""
    if vote.outcome not in ("first", "second"):
        return 0.5
    return float((vote.outcome == "first") == (vote.first == checkpoint_id))


def by_prompt(
    said: Sequence[BlindJudgement], test: BlindTest, pictures: Mapping[tuple[str, str], str]
) -> list[PromptRow]:
    """Prompt by prompt, in the order of the test."""
    return [_prompt_row(said, test, prompt, pictures) for prompt in test.prompts]


def _prompt_row(
    said: Sequence[BlindJudgement], test: BlindTest, prompt: str, pictures: Mapping[tuple[str, str], str]
) -> PromptRow:
    votes = [vote for vote in said if vote.prompt == prompt]
    cells = []
    for one in test.checkpoints:
        own = [_worth(vote, one) for vote in votes if one in (vote.first, vote.second)]
        image = pictures.get((one, prompt), "")
        cells.append((thumb_url(image) if image else "", round(100 * sum(own) / len(own)) if own else None))
    return PromptRow(prompt, len(votes), cells)


def left_words(said: Sequence[BlindJudgement]) -> str:
    """How often the left image was chosen, and whether that is more than chance; empty without a decision."""
    decided = [vote for vote in said if vote.outcome in ("first", "second")]
    if not decided:
        return ""
    left = wilson(sum((vote.outcome == "second") == vote.swapped for vote in decided), len(decided))
    low, high = round(100 * left.low), round(100 * left.high)
    told = t("blind.left", share=round(100 * left.value), low=low, high=high, n=len(decided))
    is_even = left.low <= 0.5 <= left.high
    return f"{told} {t('blind.left_even' if is_even else 'blind.left_sways')}"


def result_html(services: Services, test: BlindTest, *, with_pictures: bool = True) -> str:
    """Renders the result of a revealed test.

    Args:
        with_pictures: where the same images may still be judged blind by whoever looks, they are left out.
    """
    said = blind.judgements(services.db, [test.id])
    names = {key: one.name for key, one in judged.checkpoints_of(services.db, test.checkpoints).items()}
    with services.db.read() as session:
        pictures = blind_pairs.pictures_of(session, test.id) if with_pictures else {}
    found = duels(said, test.checkpoints, names)
    return render(
        "blind_result.html",
        test=test,
        duels=found,
        is_preliminary=len(said) < FEW,
        few=FEW,
        rows=by_prompt(said, test, pictures),
        names=[names[one] for one in test.checkpoints],
        left=left_words(said),
        people=len({vote.annotator_id for vote in said}),
        trained_on=list(lineage.trained_on(services.db, test.checkpoints, test.prompts).values()),
    )
