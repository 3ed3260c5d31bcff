"""A blind test shows everybody each pair once, keeps what they say, and tells whose images at the end."""

from __future__ import annotations

from collections import Counter

import pytest

from storage import blind, groups
from storage.blind import Answer, PairTask
from storage.engine import Database
from storage.models import Checkpoint, Image, ImageGroup, User
from storage.models_judging import BlindTest, BlindVote
from tests.storage.records import CONFIG

PROMPTS = ("red hair", "glasses", "a dog")


@pytest.fixture
def checkpoints(db: Database, base: Checkpoint) -> list[str]:
    with db.write() as session:
        for name in ("tuned", "other"):
            session.add(Checkpoint(id=name, base_model_id=base.base_model_id, name=name, path="p", update=1))
        session.add(User(id="ann", name="Ann", role="annotator"))
    return [base.id, "tuned", "other"]


def draw(db: Database, checkpoint_id: str, prompt: str, seeds: list[int], steps: int = 8) -> None:
    group = groups.request_group(
        db, prompt=prompt, checkpoint_id=checkpoint_id, config=CONFIG | {"num_steps": steps}, seeds=seeds,
        kind="compare", worker_id="w",
    )  # fmt: skip
    for index, seed in enumerate(seeds):
        sha256 = f"{hash((checkpoint_id, prompt, seed)) % 2**60:064x}"
        groups.add_image(db, group_id=group.id, index=index, seed=seed, sha256=sha256, width=8, height=8)
    groups.finish_group(db, group.id)


@pytest.fixture
def test(db: Database, checkpoints: list[str]) -> BlindTest:
    for checkpoint_id in checkpoints:
        for prompt in PROMPTS:
            draw(db, checkpoint_id, prompt, [7, 8])
    return make(db, checkpoints)


def make(db: Database, ids: list[str], prompts: tuple[str, ...] = PROMPTS, steps: int = 8) -> BlindTest:
    config = CONFIG | {"num_steps": steps}
    return blind.create_blind_test(db, checkpoint_ids=ids, prompts=prompts, seeds=[7, 8], config=config)


def say(db: Database, pair: PairTask, answer: Answer, key: str, who: str = "local") -> BlindVote:
    return blind.vote(db, client_key=key, pair_id=pair.pair_id, annotator_id=who, answer=answer)


def judge_all(db: Database, test: BlindTest, who: str = "local", favourite: str = "tuned") -> int:
    """Prefers the favourite, ties between the others; how many pairs there were."""
    done = 0
    while (pair := blind.next_pair(db, test.id, who)) is not None:
        sides = [_checkpoint(db, image) for image in (pair.left, pair.right)]
        answer: Answer = "tie" if favourite not in sides else "left" if sides[0] == favourite else "right"
        say(db, pair, answer, f"{who} {done}", who)
        done += 1
    return done


def _checkpoint(db: Database, image_id: str) -> str:
    with db.read() as session:
        image = session.get_one(Image, image_id)
        return session.get_one(ImageGroup, image.group_id).checkpoint_id


def test_every_two_checkpoints_meet_at_every_prompt_and_seed(db: Database, test: BlindTest) -> None:
    assert judge_all(db, test) == 3 * 3 * 2
    said = blind.judgements(db, [test.id])
    assert Counter(frozenset((one.first, one.second)) for one in said) == {
        frozenset(two): 6
        for two in [(test.checkpoints[0], "tuned"), (test.checkpoints[0], "other"), ("tuned", "other")]
    }
    for one in said:
        winner = {"first": one.first, "second": one.second}.get(one.outcome)
        assert winner == ("tuned" if "tuned" in (one.first, one.second) else None)
    assert Counter(one.prompt for one in said) == dict.fromkeys(PROMPTS, 6)
    assert blind.counts(db, test.id) == (18, 18)


def test_the_side_follows_from_pair_and_annotator_and_is_kept(db: Database, test: BlindTest) -> None:
    judge_all(db, test)
    said = blind.judgements(db, [test.id])
    assert {one.swapped for one in said} == {True, False}
    pair = blind.next_pair(db, test.id, "ann")
    assert pair is not None
    shown = [blind.image_of(db, pair.pair_id, side, "ann").id for side in ("left", "right")]
    assert shown == [pair.left, pair.right]
    sides = [blind.is_swapped(f"pair {number}", "ann") for number in range(400)]
    assert 160 < sum(sides) < 240


def test_the_least_judged_pair_comes_first_and_not_the_same_to_everybody(
    db: Database, test: BlindTest
) -> None:
    first = blind.next_pair(db, test.id, "ann")
    assert first is not None and (first.done, first.total) == (0, 18)
    assert blind.next_pair(db, test.id, "ann") == first
    say(db, first, "left", "a", "ann")
    seen = set()
    for number in range(17):
        pair = blind.next_pair(db, test.id, "local")
        assert pair is not None and pair.pair_id != first.pair_id
        seen.add(pair.pair_id)
        say(db, pair, "right", f"key {number}")
    last = blind.next_pair(db, test.id, "local")
    assert last is not None and last.pair_id == first.pair_id and last.done == 17 and len(seen) == 17


def test_the_last_word_counts_and_can_be_taken_back(db: Database, test: BlindTest) -> None:
    pair = blind.next_pair(db, test.id, "local")
    assert pair is not None
    first = say(db, pair, "left", "a")
    assert say(db, pair, "left", "a").id == first.id
    second = say(db, pair, "bad", "b")
    assert second.supersedes_id == first.id
    assert [one.outcome for one in blind.judgements(db, [test.id])] == ["bad"]
    for _ in range(2):
        taken = blind.undo(db, client_key="u", test_id=test.id, annotator_id="local")
        assert taken is not None and taken.pair_id == pair.pair_id
    assert [one.outcome for one in blind.judgements(db, [test.id])] == [first.outcome]
    blind.undo(db, client_key="v", test_id=test.id, annotator_id="local")
    assert blind.judgements(db, [test.id]) == []
    assert blind.undo(db, client_key="w", test_id=test.id, annotator_id="local") is None
    assert blind.next_pair(db, test.id, "local") == pair


def test_a_skipped_pair_is_done_and_no_vote(db: Database, test: BlindTest) -> None:
    pair = blind.next_pair(db, test.id, "local")
    assert pair is not None
    say(db, pair, "skip", "a")
    following = blind.next_pair(db, test.id, "local")
    assert following is not None and following.pair_id != pair.pair_id and following.done == 1
    assert blind.counts(db, test.id) == (0, 18)


def test_after_the_reveal_no_vote_is_taken(db: Database, test: BlindTest) -> None:
    pair = blind.next_pair(db, test.id, "local")
    assert pair is not None
    kept = say(db, pair, "left", "before")
    assert blind.judgements(db) == []
    revealed = blind.reveal(db, test.id).revealed_at
    assert blind.reveal(db, test.id).revealed_at == revealed
    assert say(db, pair, "left", "before").id == kept.id
    with pytest.raises(ValueError, match="revealed, so votes on it no longer count"):
        say(db, pair, "right", "after")
    with pytest.raises(ValueError, match="no longer count"):
        blind.undo(db, client_key="u", test_id=test.id, annotator_id="local")
    assert blind.next_pair(db, test.id, "ann") is None
    assert len(blind.judgements(db)) == 1


def test_what_does_not_fit_is_refused_in_words(db: Database, checkpoints: list[str], test: BlindTest) -> None:
    pair = blind.next_pair(db, test.id, "local")
    assert pair is not None
    say(db, pair, "left", "a")
    with pytest.raises(ValueError, match="new key for each click"):
        say(db, pair, "right", "a")
    with pytest.raises(ValueError, match="left, right, tie, bad or skip"):
        say(db, pair, "first", "b")  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="no pair"):
        blind.vote(db, client_key="c", pair_id="nothing", annotator_id="local", answer="tie")
    with pytest.raises(ValueError, match="18 of the 18 images are not drawn yet"):
        make(db, checkpoints, steps=9)
    with pytest.raises(ValueError, match="4 of the 8 images"):
        make(db, checkpoints[:2], ("red hair", "a cat"))
    for ids in ([checkpoints[0]], [checkpoints[0]] * 2):
        with pytest.raises(ValueError, match="2 to 8 different checkpoints"):
            make(db, ids)
    with pytest.raises(LookupError, match="no checkpoint"):
        make(db, [checkpoints[0], "nobody"])
    with pytest.raises(ValueError, match="each named once"):
        make(db, checkpoints, ("red hair", "red hair"))
