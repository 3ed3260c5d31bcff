"""Figures of the Team page come with their number and their doubt, and to each what concerns them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from flowgrpo.runs.judging import agreement as counted
from storage import audit, backup_trouble, checks, exclusion, jobs, settings, users, workers
from storage.backup import back_up
from storage.engine import Database
from storage.quotas import Quotas, set_quotas
from storage.run_rules import RunRules, set_run_rules
from storage.types import utc_now
from tests.ui.at_desk import at, body, choose
from tests.ui.conftest import MakeGroup
from ui.pages.team import acted
from ui.services import Services
from ui.team import counting
from ui.team.common import Desk, Seen, ago, seen_of, share
from ui.team.storing import size
from ui.usage import Usage


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services, Usage(services.db.home), users.get_user(services.db, "local"))


@pytest.fixture
def ann(db: Database) -> str:
    return users.add_user(db, "Ann", "annotator").id


def count(db: Database) -> None:
    """The engine does the count that is asked for."""
    job = jobs.claim_job(db, "w")
    assert job is not None and job.kind == "agreement"
    jobs.finish_job(db, job.id, counted(db))


# Agreement and quality


def test_a_count_is_asked_for_when_somebody_looks_and_again_only_when_the_votes_changed(
    db: Database, desk: Desk, ann: str, make_group: MakeGroup
) -> None:
    def asked() -> int:
        counting.ask_if_new(desk)
        return len(jobs.recent_jobs(db, "agreement"))

    assert asked() == 0
    choose(db, make_group())
    assert asked() == 1 == asked()
    assert "A new count waits for the engine" in body(desk, "agreement")
    count(db)
    assert asked() == 1
    assert "Counted just now, from 1 votes." in body(desk, "agreement")
    choose(db, make_group(), who=ann)
    assert "The votes have changed since." in body(desk, "agreement")
    assert asked() == 2
    count(db)
    exclusion.exclude(db, ann, "practice")
    assert asked() == 3


def test_a_count_that_failed_says_why_and_what_was_counted_before_stays(
    db: Database, desk: Desk, make_group: MakeGroup
) -> None:
    choose(db, make_group())
    counting.ask_if_new(desk)
    count(db)
    acted(desk, "count", "", {})
    job = jobs.claim_job(db, "w")
    assert job is not None
    jobs.fail_job(db, job.id, "the disk is full")
    said = body(desk, "quality")
    assert "the disk is full" in said and "Counted just now" in said and 'data-act="count"' in said


def shared(db: Database, make_group: MakeGroup, ann: str, number: int) -> None:
    """Groups that two people rated; they agree on all but every fourth."""
    for place in range(number):
        view = make_group((0.1, 0.2, 0.3))
        choose(db, view, place % 3)
        choose(db, view, (place + (place % 4 == 0)) % 3, ann)


def test_alpha_is_held_back_below_thirty_shared_groups_with_the_number_that_is_missing(
    db: Database, desk: Desk, ann: str, make_group: MakeGroup
) -> None:
    shared(db, make_group, ann, 12)
    counting.ask_if_new(desk)
    count(db)
    said = body(desk, "agreement")
    assert "same answer to 75% (" in said and "of 12 items that both judged, in 12 groups" in said
    assert "shown from 30 shared groups on; 18 are missing." in said and "α is" in said
    assert "Ann · local" in said or "local · Ann" in said
    assert 'class="few"' in said and "65 to 75% is normal" in said


def test_alpha_comes_with_its_interval_from_thirty_shared_groups_on(
    db: Database, desk: Desk, ann: str, make_group: MakeGroup
) -> None:
    shared(db, make_group, ann, 30)
    counting.ask_if_new(desk)
    count(db)
    assert "Krippendorff’s α is 0." in body(desk, "agreement")
    assert "missing" not in body(desk, "agreement")


def test_who_is_no_admin_sees_their_own_figures_and_nobody_elses(
    db: Database, desk: Desk, ann: str, make_group: MakeGroup
) -> None:
    bea = users.add_user(db, "Bea", "annotator").id
    for _ in range(3):
        view = make_group()
        for who in ("local", ann, bea):
            choose(db, view, 0, who)
    counting.ask_if_new(desk)
    count(db)
    assert {"Ann", "Bea", "local"} <= set(body(desk, "quality").replace("<", " <").replace(">", "> ").split())
    mine = body(at(desk, ann), "quality")
    assert "Ann" in mine and "Bea" not in mine
    two = body(at(desk, ann), "agreement")
    assert "Bea" in two and two.count("<tr") == 3  # the head, with Bea and with local; not Bea with local
    acted(desk, "role", bea, {"role": "artist"})
    assert "Bea" not in body(at(desk, ann), "audit")


def test_gold_and_places_are_told_with_their_number_and_grey_while_it_is_small(
    db: Database, desk: Desk, make_group: MakeGroup
) -> None:
    for number in range(3):
        view = make_group((0.1, 0.2, 0.3))
        checks.add_check(db, view.group.id, [view.images[0].image.id])
        choose(db, view, 0 if number else 1)
    for _ in range(25):
        choose(db, make_group((0.1, 0.2, 0.3)))
    counting.ask_if_new(desk)
    count(db)
    said = body(desk, "quality")
    assert "67% (21 to 94%)" in said and "of 3" in said and 'class="few"' in said
    assert "Best of 3: the first place was chosen 100% (87 to 100%) of 25 times" in said
    assert "The place sways people" in said
    assert "Nobody has answered a group twice yet." in said


# The log


def test_the_log_is_paged_and_filtered_by_its_address(db: Database, desk: Desk, ann: str) -> None:
    users.set_role(db, ann, "admin")
    for number in range(60):
        settings.put_setting(db, f"key-{number:02d}", number, by=ann)
    first = body(desk, "audit", act="setting")
    assert "key-59" in first and "key-10" in first and "key-09" not in first and "before=" in first
    oldest = audit.page(db, act="setting", limit=50)[-1].id
    second = body(desk, "audit", act="setting", before=oldest)
    assert "key-09" in second and "key-10" not in second and "Newest" in second and "Older" not in second
    assert "key-59" not in body(desk, "audit", who="local")
    assert "Choose another filter" in body(desk, "audit", act="check.add")


def test_the_log_speaks_of_people_and_groups_by_name_and_number(
    db: Database, desk: Desk, ann: str, make_group: MakeGroup
) -> None:
    view = make_group()
    acted(desk, "role", ann, {"role": "artist"})
    checks.add_check(db, view.group.id, [view.images[0].image.id])
    said = body(desk, "audit")
    assert "changed the role of: Ann" in said and "annotator → artist" in said
    assert f"made a check group: Group {view.group.seq}" in said
    assert view.group.id not in said and ann not in said


def test_the_log_writes_the_parts_of_a_setting_as_people_do(db: Database, desk: Desk) -> None:
    set_quotas(db, Quotas(folder_bytes=7 * 10**9, images_a_day=500))
    assert "folder bytes: 7,000,000,000, images a day: 500<" in body(desk, "audit")
    set_run_rules(db, RunRules(end_stalled=True))
    said = body(desk, "audit")
    assert "stall minutes: 10.0, end stalled: yes, keep all up to: 20" in said


def test_an_act_of_a_later_version_is_shown_by_its_own_words(db: Database, desk: Desk) -> None:
    with db.write() as session:
        audit.note(session, "local", "checkpoint.prune", "run7@40", {"bytes": 12})
    assert "checkpoint prune: run7@40" in body(desk, "audit") and "bytes: 12" in body(desk, "audit")


# Storage and the engine


def test_storage_is_measured_beside_the_page_and_shown_with_its_age(
    desk: Desk, make_group: MakeGroup
) -> None:
    make_group()
    assert "Measuring the data folder" in body(desk, "storage")
    while desk.usage.is_measuring():
        pass
    said = body(desk, "storage")
    assert "Measured just now." in said and "Database" in said and "Images" in said
    assert str(desk.services.db.home) in said


def test_the_engine_is_told_as_its_rows_say(db: Database, desk: Desk) -> None:
    assert "No engine has run on this data folder yet." in body(desk, "storage")
    workers.worker_beat(db, worker_id="host:cuda:0", pid=1, state="generating", detail="group 4")
    said = body(desk, "storage")
    assert "cuda:0" in said and "generating" in said and "Group 4." in said
    later = replace(desk.services, now=lambda: utc_now() + timedelta(minutes=5))
    assert "not running" in body(replace(desk, services=later), "storage")


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 KB"), (999, "1 KB"), (12_000, "12 KB"), (4_700_000, "4.7 MB"), (70_000_000_000, "70 GB")],
)
def test_bytes_are_said_as_people_say_them(count: int, words: str) -> None:
    assert size(count) == words


# Words


def test_an_address_that_asks_for_no_section_is_the_first_one() -> None:
    assert seen_of({}).tab == seen_of({"tab": "<script>"}).tab == "people"
    assert seen_of({"tab": "audit", "who": "x", "before": "y"}) == Seen("audit", who="x", before="y")


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(days=3), "3 days ago"),
    ],
)
def test_how_long_ago_is_told_in_words(passed: timedelta, words: str) -> None:
    now = utc_now()
    assert ago(now - passed, now) == words and ago(None, now) == "never"


def test_a_share_without_an_interval_claims_none() -> None:
    assert share((0.68, 0.61, 0.75)) == "68% (61 to 75%)"
    assert share((0.68, None, None)) == "68%" and share((None, None, None)) == ""


def test_a_backup_that_failed_is_told_to_admins_with_its_reason(db: Database, desk: Desk) -> None:
    assert "The last backup failed" not in body(desk, "storage")
    backup_trouble.note(db.home, "No backup was made (File exists): free some space, then try again.")
    said = body(desk, "storage")
    assert "The last backup failed (just now): No backup was made (File exists): free some" in said
    assert "try again. The studio goes on" in said and 'role="alert"' in said
    trainer = replace(desk, me=users.add_user(db, "Tia", "trainer"))
    assert "The last backup failed" not in body(trainer, "storage")
    back_up(db)
    assert "The last backup failed" not in body(desk, "storage")


def test_storage_says_how_old_the_newest_backup_is_and_which_limits_hold(db: Database, desk: Desk) -> None:
    said = body(desk, "storage")
    assert "There is no backup yet" in said and "free for ratings" in said and "An artist" not in said
    assert back_up(db) is not None
    set_quotas(db, Quotas(folder_bytes=7 * 10**9, reserve_bytes=5 * 10**6, images_a_day=1_000))
    said = body(desk, "storage")
    assert "Newest backup: just now. In the folder backups: 1," in said
    assert "leave 5.0 MB of the disk free" in said and "may take 7.0 GB" in said
    assert "have any number of images waiting, and ask for 1,000 a day" in said
