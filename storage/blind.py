"""Blind tests: pairs of images judged without knowing whose they are, kept like ratings, revealed at the end.

Which of the two is on the left follows from pair and annotator, and is kept with the vote. After the reveal
votes are refused: who knows the answer does not judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from storage import audit, blind_pairs, exclusion
from storage.engine import Database
from storage.lookup import checked_prompt, next_number, required
from storage.models import Image, ImageGroup, User
from storage.models_judging import BlindOutcome, BlindPair, BlindTest, BlindVote
from storage.rating_kinds import check_key
from storage.types import new_id, utc_now

Answer = Literal["left", "right", "tie", "bad", "skip"]
"""What an annotator sees; `bad`: neither is any good."""


@dataclass(frozen=True)
class PairTask:
    """A pair to judge now.

    Attributes:
        left, right: image ids, for the server alone: by them a checkpoint can be looked up.
        done: pairs of the test that this annotator judged or skipped, of `total`.
    """

    pair_id: str
    prompt: str
    left: str
    right: str
    done: int
    total: int


@dataclass(frozen=True)
class BlindJudgement:
    """A vote that holds, with what it was about. `first` and `second` are checkpoint ids."""

    test_id: str
    annotator_id: str
    prompt: str
    prompt_hash: str
    first: str
    second: str
    outcome: BlindOutcome
    swapped: bool
    lead_ms: int | None


@dataclass(frozen=True)
class Judge:
    """How far somebody is with a test.

    Attributes:
        judged, skipped: pairs; what was taken back is neither.
    """

    annotator_id: str
    name: str
    judged: int
    skipped: int


def create_blind_test(
    db: Database,
    *,
    checkpoint_ids: Sequence[str],
    prompts: Sequence[str],
    seeds: Sequence[int],
    config: dict[str, Any],
    name: str = "",
    created_by: str = "local",
    test_id: str | None = None,
) -> BlindTest:
    """A test of every two checkpoints at every prompt and seed.

    Args:
        config: a SamplingConfig's dump, the one that all images were made under.
        name: empty for its number.
        test_id: its id where that was fixed before, by the job that drew its images; a test that has it
            already is returned as it is.

    Raises:
        ValueError: fewer than two checkpoints, an empty list, too many pairs, images that are not drawn yet.
        LookupError: unknown user or checkpoint.
    """
    prompts = [checked_prompt(prompt) for prompt in prompts]
    blind_pairs.check(checkpoint_ids, prompts, seeds)
    test = BlindTest(
        id=test_id or new_id(), name=name.strip(), checkpoints=list(checkpoint_ids), prompts=prompts
    )
    test.seeds, test.config, test.created_by = list(seeds), config, created_by
    with db.write() as session:
        required(session, User, created_by, "user")
        if (known := session.get(BlindTest, test.id)) is not None:
            return known
        images = blind_pairs.images_of(session, checkpoint_ids, prompts, seeds, config)
        test.seq = next_number(session, BlindTest.seq)
        test.name = test.name or f"Blind test {test.seq}"
        session.add(test)
        session.flush()
        made = blind_pairs.pairs(images, checkpoint_ids, prompts, seeds, test.id)
        for position, (first, second) in enumerate(made):
            pair = BlindPair(test_id=test.id, position=position, first_image_id=first, second_image_id=second)
            session.add(pair)
    return test


def get_test(db: Database, test_id: str) -> BlindTest:
    """Raises LookupError when there is none with this id."""
    with db.read() as session:
        return required(session, BlindTest, test_id, "blind test")


def list_tests(db: Database, limit: int = 50) -> list[BlindTest]:
    """Newest first."""
    with db.read() as session:
        return list(session.scalars(select(BlindTest).order_by(BlindTest.seq.desc()).limit(limit)))


def test_of(db: Database, pair_id: str) -> str:
    """The id of the test that a pair belongs to; LookupError for an unknown pair."""
    with db.read() as session:
        return required(session, BlindPair, pair_id, "pair").test_id


def is_swapped(pair_id: str, annotator_id: str) -> bool:
    """Whether this annotator sees the second image of the pair on the left."""
    return bool(blind_pairs.lot(pair_id, annotator_id, "side")[0] & 1)


def next_pair(db: Database, test_id: str, annotator_id: str) -> PairTask | None:
    """The pair to judge now; None when all are done, or the test is revealed."""
    return next(iter(next_pairs(db, test_id, annotator_id, 1)), None)


def next_pairs(db: Database, test_id: str, annotator_id: str, limit: int) -> list[PairTask]:
    """The pair to judge now and those that would follow: of those that this annotator did not judge the least
    judged first.

    Empty when all are done, or the test is revealed. Which one of the least judged differs from annotator to
    annotator, so that those who work at the same time get different pairs without a lease.
    """
    with db.read() as session:
        test = required(session, BlindTest, test_id, "blind test")
        required(session, User, annotator_id, "annotator")
        pairs = list(session.scalars(select(BlindPair).where(BlindPair.test_id == test_id)))
        votes = _standing(session.scalars(_votes(test_id)))
        mine = {vote.pair_id for vote in votes if vote.annotator_id == annotator_id}
        seen = Counter(vote.pair_id for vote in votes if vote.outcome != "skip")
        left = [pair for pair in pairs if pair.id not in mine]
        if test.revealed_at is not None:
            return []
        left.sort(key=lambda one: (seen[one.id], blind_pairs.lot(one.id, annotator_id, "turn")))
        return [_task(session, pair, annotator_id, len(mine), len(pairs)) for pair in left[:limit]]


def image_of(db: Database, pair_id: str, side: Literal["left", "right"], annotator_id: str) -> Image:
    """The image that this annotator sees on this side; LookupError for an unknown pair."""
    with db.read() as session:
        pair = required(session, BlindPair, pair_id, "pair")
        is_second = (side == "left") == is_swapped(pair_id, annotator_id)
        return required(session, Image, pair.second_image_id if is_second else pair.first_image_id, "image")


def vote(
    db: Database,
    *,
    client_key: str,
    pair_id: str,
    annotator_id: str,
    answer: Answer,
    lead_ms: int | None = None,
) -> BlindVote:
    """Keeps what an annotator said about a pair, in place of what they said before.

    Again with the same key it returns the vote that was kept.

    Raises:
        ValueError: an unknown answer, a test that is revealed, or a key used for another act.
        LookupError: unknown annotator or pair.
        NotSavedError: nothing was kept; call again with the same key.
    """
    check_key(client_key)
    if answer not in get_args(Answer):
        raise ValueError(f"expected left, right, tie, bad or skip, got {answer!r}")
    swapped = is_swapped(pair_id, annotator_id)
    outcome = _outcome(answer, swapped)
    with db.write() as session:
        known = session.scalar(select(BlindVote).where(BlindVote.client_key == client_key))
        if known is not None:
            return _same(known, pair_id, annotator_id, outcome)
        pair = required(session, BlindPair, pair_id, "pair")
        _check_open(session, pair.test_id, annotator_id)
        before = _standing(session.scalars(_votes(pair.test_id).where(BlindVote.pair_id == pair_id)))
        earlier = [one.id for one in before if one.annotator_id == annotator_id]
        return _keep(
            session,
            BlindVote(
                client_key=client_key,
                pair_id=pair_id,
                annotator_id=annotator_id,
                outcome=outcome,
                swapped=swapped,
                lead_ms=lead_ms,
                supersedes_id=earlier[0] if earlier else None,
            ),
        )


def undo(db: Database, *, client_key: str, test_id: str, annotator_id: str) -> PairTask | None:
    """Takes back the annotator's last vote of a test, and returns its pair; None when there is none.

    Raises:
        ValueError: the test is revealed, or the key was used for another act. LookupError: unknown test.
    """
    check_key(client_key)
    with db.write() as session:
        known = session.scalar(select(BlindVote).where(BlindVote.client_key == client_key))
        if known is not None:
            _same(known, known.pair_id, annotator_id, "undo")
            return _shown(session, known.pair_id, annotator_id)
        _check_open(session, test_id, annotator_id)
        said = _not_undone(session.scalars(_votes(test_id).where(BlindVote.annotator_id == annotator_id)))
        if not said:
            return None
        last = said[-1]
        taken = BlindVote(
            client_key=client_key, pair_id=last.pair_id, annotator_id=annotator_id, outcome="undo"
        )
        taken.swapped, taken.supersedes_id = last.swapped, last.id
        _keep(session, taken)
        return _shown(session, last.pair_id, annotator_id)


def reveal(db: Database, test_id: str, by: str = "local") -> BlindTest:
    """Ends a test: whose images they were may be said now, and no vote counts any more. Idempotent."""
    with db.write() as session:
        test = required(session, BlindTest, test_id, "blind test")
        if test.revealed_at is None:
            test.revealed_at = utc_now()
            audit.note(session, by, "blind_test.reveal", test.id, {"name": test.name})
        return test


def counts(db: Database, test_id: str) -> tuple[int, int]:
    """(votes that hold, pairs) of a test; skips are no votes."""
    with db.read() as session:
        pairs = session.scalar(select(func.count()).where(BlindPair.test_id == test_id)) or 0
        votes = _standing(session.scalars(_votes(test_id)))
        return sum(one.outcome != "skip" for one in votes), pairs


def judges(db: Database, test_id: str) -> list[Judge]:
    """Everybody who judged or skipped a pair of a test, by name."""
    with db.read() as session:
        votes = _standing(session.scalars(_votes(test_id)))
        names = {
            one.id: one.name
            for one in session.scalars(select(User).where(User.id.in_({vote.annotator_id for vote in votes})))
        }
    skips = Counter(vote.annotator_id for vote in votes if vote.outcome == "skip")
    all_of = Counter(vote.annotator_id for vote in votes)
    found = [Judge(one, names[one], all_of[one] - skips[one], skips[one]) for one in all_of]
    return sorted(found, key=lambda one: (one.name, one.annotator_id))


def judgements(db: Database, test_ids: Sequence[str] | None = None) -> list[BlindJudgement]:
    """Every vote that holds and counts of some tests, or of all that are revealed, oldest first; skips are no
    votes."""
    with db.read() as session:
        if test_ids is None:
            test_ids = list(session.scalars(select(BlindTest.id).where(BlindTest.revealed_at.is_not(None))))
        pairs = {
            pair.id: pair
            for pair in session.scalars(select(BlindPair).where(BlindPair.test_id.in_(test_ids)))
        }
        images = (
            select(Image.id, ImageGroup.checkpoint_id, ImageGroup.prompt, ImageGroup.prompt_hash)
            .join(ImageGroup, ImageGroup.id == Image.group_id)
            .where(
                Image.id.in_(
                    select(BlindPair.first_image_id)
                    .where(BlindPair.test_id.in_(test_ids))
                    .union(select(BlindPair.second_image_id).where(BlindPair.test_id.in_(test_ids)))
                )
            )
        )
        made = {row[0]: row[1:] for row in session.execute(images)}
        votes = exclusion.counted(session, _standing(session.scalars(_votes(*test_ids))))
    found = []
    for one in votes:
        if one.outcome == "skip":
            continue
        pair = pairs[one.pair_id]
        first, second = made[pair.first_image_id], made[pair.second_image_id]
        about = (pair.test_id, one.annotator_id, first[1], first[2], first[0], second[0])
        found.append(BlindJudgement(*about, one.outcome, one.swapped, one.lead_ms))
    return found


def last_words(db: Database) -> list[BlindVote]:
    """What holds of every annotator on every pair, of tests that are not revealed too, in order."""
    with db.read() as session:
        return _standing(session.scalars(select(BlindVote).order_by(BlindVote.seq)))


def _outcome(answer: Answer, swapped: bool) -> BlindOutcome:
    if answer == "left":
        return "second" if swapped else "first"
    if answer == "right":
        return "first" if swapped else "second"
    return answer


def _votes(*test_ids: str) -> Select[BlindVote]:
    query = select(BlindVote).join(BlindPair, BlindPair.id == BlindVote.pair_id)
    return query.where(BlindPair.test_id.in_(test_ids)).order_by(BlindVote.seq)


def _not_undone(votes: Iterable[BlindVote]) -> list[BlindVote]:
    votes = list(votes)
    undone = {vote.supersedes_id for vote in votes if vote.outcome == "undo"}
    return [vote for vote in votes if vote.outcome != "undo" and vote.id not in undone]


def _standing(votes: Iterable[BlindVote]) -> list[BlindVote]:
    """The last word of each annotator on each pair, in order."""
    last: dict[tuple[str, str], BlindVote] = {}
    for one in _not_undone(votes):
        last[one.pair_id, one.annotator_id] = one
    return sorted(last.values(), key=lambda one: one.seq)


def _check_open(session: Session, test_id: str, annotator_id: str) -> None:
    if not required(session, User, annotator_id, "annotator").active:
        raise ValueError("this account is no longer active: ask an admin")
    if required(session, BlindTest, test_id, "blind test").revealed_at is not None:
        raise ValueError(
            "this test was revealed, so votes on it no longer count: start another one to judge again"
        )


def _keep(session: Session, made: BlindVote) -> BlindVote:
    made.seq = next_number(session, BlindVote.seq)
    session.add(made)
    session.flush()
    return made


def _same(known: BlindVote, pair_id: str, annotator_id: str, outcome: BlindOutcome) -> BlindVote:
    if (known.pair_id, known.annotator_id, known.outcome) != (pair_id, annotator_id, outcome):
        raise ValueError(
            f"the key {known.client_key} was used for another act: make a new key for each click"
        )
    return known


def _shown(session: Session, pair_id: str, annotator_id: str) -> PairTask:
    pair = required(session, BlindPair, pair_id, "pair")
    votes = _standing(session.scalars(_votes(pair.test_id).where(BlindVote.annotator_id == annotator_id)))
    total = session.scalar(select(func.count()).where(BlindPair.test_id == pair.test_id)) or 0
    return _task(session, pair, annotator_id, len(votes), total)


def _task(session: Session, pair: BlindPair, annotator_id: str, done: int, total: int) -> PairTask:
    query = select(ImageGroup.prompt).join(Image, Image.group_id == ImageGroup.id)
    prompt = session.scalars(query.where(Image.id == pair.first_image_id)).one()
    sides = pair.first_image_id, pair.second_image_id
    left, right = sides[::-1] if is_swapped(pair.id, annotator_id) else sides
    return PairTask(pair.id, prompt, left, right, done, total)
