"""Blind tests on a page: what a form would start, who may start and end one, and what came of it."""

from __future__ import annotations

import re

import pytest

from storage import blind, blind_requests, jobs, prompts, users
from storage.engine import Database
from storage.models import User
from tests.ui.blinded import CONFIG, PROMPTS, SEEDS, Blinded, blinded, judge_all
from ui import blind_judging, blind_results, blind_tests, boards, judging
from ui.blind_judging import Said, Shown
from ui.forms import Refused
from ui.parts.blind import acted, started
from ui.services import Services


@pytest.fixture
def data(db: Database) -> Blinded:
    return blinded(db)


@pytest.fixture
def me(db: Database) -> User:
    return users.get_user(db, users.LOCAL)


def typed(data: Blinded, *texts: str) -> list[object]:
    ids = [data.base.id, data.tuned.id]
    return [ids, "\n".join(texts or PROMPTS), 2, 8, 1.0, ", ".join(map(str, SEEDS)), "", 64, 64]


def test_the_form_opens_with_the_newest_checkpoint_after_its_parent(
    services: Services, data: Blinded
) -> None:
    assert judging.first_choice(services) == [data.base.id, data.tuned.id]
    run = judging.run_of(services, [data.base.id, data.tuned.id])
    assert judging.sampler_of(run)[:2] == (8, 1.0)


def test_prompts_come_from_the_set_of_the_run_first_and_are_never_cut_silently(
    services: Services, db: Database, data: Blinded
) -> None:
    made = prompts.save_prompt_set(db, "many", ["x"], [f"prompt {n}" for n in range(205)])
    run = judging.run_of(services, [data.tuned.id])
    assert run is not None
    run.prompt_set_id = made.id
    assert judging.sources(services, run)[0][1] == made.id
    lines, note = judging.held_out(services, made.id)
    assert len(lines.splitlines()) == 200 and "first 200 of its 205" in note


def test_the_plan_counts_pairs_and_missing_images_and_names_what_is_wrong(
    services: Services, data: Blinded, me: User
) -> None:
    html = blind_tests.plan_html(services, me, typed(data))
    assert "6 pairs" in html and "All 12 images are there." in html
    html = blind_tests.plan_html(services, me, typed(data, PROMPTS[0], "a dog"))
    assert "4 of 8 images are not drawn yet." in html
    html = blind_tests.plan_html(services, me, [[data.base.id], *typed(data)[1:]])
    assert "Choose 2 to 8 checkpoints, not 1." in html and 'data-act="start"' not in html


def test_a_test_whose_images_are_there_is_open_at_once_and_another_one_is_drawn(
    services: Services, data: Blinded, me: User
) -> None:
    chosen, *_ = started(services, me, tuple(typed(data)))
    assert blind.counts(services.db, chosen) == (0, 6)
    waiting, _, html = started(services, me, tuple(typed(data, "a dog")))
    assert jobs.get_job(services.db, waiting).kind == blind_requests.KIND
    assert "Next in the queue." in html
    acted(services, me, waiting, "cancel", waiting)
    again, _, html = acted(services, me, waiting, "again", waiting)
    assert again != waiting and "Next in the queue." in html


def test_annotators_neither_start_nor_reveal_and_see_no_names_of_an_open_test(
    services: Services, data: Blinded
) -> None:
    test = data.start()
    assert blind_tests.plan_html(services, data.ann, typed(data)) == ""
    with pytest.raises(Refused, match="role artist"):
        blind_tests.start(services, data.ann, typed(data))
    _, _, html = acted(services, data.ann, test.id, "reveal", test.id)
    assert "ends it for everybody" in html
    assert blind.get_test(services.db, test.id).revealed_at is None
    assert not re.search("secret", html, re.IGNORECASE)


def test_the_result_is_a_sentence_with_its_doubt_and_ties_count_half(
    services: Services, data: Blinded
) -> None:
    test = data.start()
    judge_all(services.db, test, data.ann)
    judge_all(services.db, test, data.bea, favour_tuned=False)
    names = {data.base.id: "base", data.tuned.id: "tuned"}
    (duel,) = blind_results.duels(blind.judgements(services.db, [test.id]), test.checkpoints, names)
    assert (duel.wins, duel.losses, duel.share.value) == (6, 6, 0.5)
    assert duel.words.startswith("tuned preferred 50% (95% CI ") and "12 votes, 3 prompts" in duel.words
    assert not duel.is_clear and duel.share.low < 0.3 < 0.7 < duel.share.high
    blind.reveal(services.db, test.id)
    html = blind_results.result_html(services, test)
    assert "Not decided" in html and "Preliminary: fewer than 50 votes." in html
    assert html.count("/media/thumb/") == 6
    assert "/media/" not in blind_results.result_html(services, test, with_pictures=False)


def test_the_side_is_told_to_sway_where_one_side_is_chosen_throughout(
    services: Services, data: Blinded
) -> None:
    test = data.start()
    for number in range(6):
        pair = blind.next_pair(services.db, test.id, data.ann.id)
        assert pair is not None
        blind.vote(
            services.db,
            client_key=f"k{number}",
            pair_id=pair.pair_id,
            annotator_id=data.ann.id,
            answer="left",
        )
    told = blind_results.left_words(blind.judgements(services.db, [test.id]))
    assert told.startswith("The left image was chosen in 100% of 6 decided votes") and "seems to sway" in told


def test_the_same_key_counts_once_and_a_pair_of_another_test_is_refused(
    services: Services, data: Blinded
) -> None:
    test, other = data.start(), data.start(PROMPTS[:1])
    pair = blind.next_pair(services.db, test.id, data.ann.id)
    assert pair is not None
    said = Said("vote", test.id, "a key of one click", pair.pair_id, "left", 800)
    for _ in range(2):
        shown, html = blind_judging.answered(services, data.ann, said)
        assert shown.kind == "pair" and "1 of 6 pairs" in html
    foreign = Said("vote", other.id, "a key of another", pair.pair_id, "left")
    assert "belongs to another test" in blind_judging.answered(services, data.ann, foreign)[1]
    with pytest.raises(Refused, match="reload the page"):
        blind_judging.read(object())


def test_a_pair_stays_until_it_is_answered_or_the_test_is_revealed(services: Services, data: Blinded) -> None:
    test = data.start()
    shown, _ = blind_judging.card(services, data.ann, test.id)
    assert blind_judging.ticked(services, data.ann, test.id, shown) is None
    blind.reveal(services.db, test.id)
    now = blind_judging.ticked(services, data.ann, test.id, shown)
    assert now is not None and now[0].kind == "result"
    assert blind_judging.card(services, data.ann, "f" * 36)[0].kind == "unknown"
    assert blind_judging.card(services, data.ann, "")[0] != Shown()


def test_a_reveal_has_the_votes_counted_once(services: Services, data: Blinded, me: User) -> None:
    test = data.start()
    assert not boards.ask(services)
    judge_all(services.db, test, data.ann)
    blind_tests.reveal(services, me, test.id)
    assert not boards.ask(services)
    assert [job.state for job in boards.counts(services)] == ["queued"]
    job = jobs.claim_job(services.db, "w")
    assert job is not None
    jobs.fail_job(services.db, job.id, "no luck")
    assert not boards.ask(services) and "No luck." in boards.board_html(services)
    boards.count_again(services, me.id)
    assert [job.state for job in boards.counts(services)] == ["queued", "failed"]
    assert test.config == CONFIG
