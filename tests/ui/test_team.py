"""The Team page: only admins change anything, refusals are sentences, and figures come with their doubt."""

from __future__ import annotations

import pytest

from storage import (
    accounts,
    audit,
    checks,
    exclusion,
    image_text,
    jobs,
    rating_rules,
    settings,
    snapshots,
    users,
)
from storage.engine import Database
from storage.run_rules import RunRules, run_rules
from tests.ui.at_desk import at, body, choose, form
from tests.ui.conftest import MakeGroup
from ui.components import topbar
from ui.pages import team
from ui.pages.team import acted
from ui.services import Services
from ui.team.common import TABS, Desk
from ui.usage import Usage

RULES = {
    "share": "20", "raters": "3", "gold_share": "5", "repeat_share": "10", "modes": "best stars",
    "guidelines": "Look at the hands.",
}  # fmt: skip


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services, Usage(services.db.home), users.get_user(services.db, "local"))


@pytest.fixture
def ann(db: Database) -> str:
    return users.add_user(db, "Ann", "annotator").id


# Who may do what


@pytest.mark.parametrize("role", ["viewer", "annotator", "artist", "trainer"])
def test_no_act_of_this_page_is_done_for_who_is_no_admin(
    db: Database, desk: Desk, make_group: MakeGroup, role: str
) -> None:
    group = make_group()
    someone = users.add_user(db, "Someone", role)  # type: ignore[arg-type]
    before = [(one.id, one.role, one.active) for one in users.list_users(db)]
    log = len(audit.latest(db))
    fields = {"name": "New", "role": "admin", "why": "so", "accepted": group.images[0].image.id, **RULES}
    for act in team._ACTS:
        said, problem = acted(at(desk, someone.id), act, someone.id, fields)
        assert said == "" and problem.startswith(f"Your role ({role}) cannot "), act
        assert problem.endswith("Ask an admin.")
    assert [(one.id, one.role, one.active) for one in users.list_users(db)] == before
    assert len(audit.latest(db)) == log and jobs.recent_jobs(db, "agreement") == []
    assert exclusion.exclusions(db) == {} and checks.list_checks(db) == []


def test_an_act_that_there_is_not_is_a_sentence(desk: Desk) -> None:
    assert acted(desk, "reset", "", {}) == ("", "There is no act 'reset' on this page: reload it.")


def test_an_annotator_sees_the_people_and_no_way_to_change_them(desk: Desk, ann: str) -> None:
    mine = at(desk, ann)
    assert "Ann" in body(mine, "people") and "data-open" not in body(mine, "people")
    assert "<form" not in form(mine, "people", person=ann)
    assert "You are Ann (annotator). Only an admin changes people." in form(mine, "people")
    assert "disabled" in form(mine, "assignment") and 'type="submit"' not in form(mine, "assignment")


@pytest.mark.parametrize("tab", TABS)
def test_every_section_is_drawn_on_an_empty_studio_for_everybody(desk: Desk, ann: str, tab: str) -> None:
    for one in (desk, at(desk, ann)):
        assert body(one, tab)


# People


def test_a_person_is_added_changed_kept_out_and_let_in(db: Database, desk: Desk) -> None:
    assert acted(desk, "add", "", {"name": " Bea ", "role": "artist"})[0].startswith("Bea is here now")
    bea = next(one for one in users.list_users(db) if one.name == "Bea")
    assert acted(desk, "role", bea.id, {"role": "trainer"}) == ("Bea is trainer now.", "")
    assert acted(desk, "leave", bea.id, {})[1] == ""
    assert not users.get_user(db, bea.id).active and "not active" in body(desk, "people")
    assert acted(desk, "enter", bea.id, {})[1] == ""
    assert users.get_user(db, bea.id).active
    assert [one.act for one in audit.latest(db)][:4] == [
        "user.active",
        "user.active",
        "user.role",
        "user.add",
    ]


@pytest.mark.parametrize(
    ("act", "fields", "says"),
    [
        ("add", {"name": "Ann", "role": "viewer"}, "There is a Ann already: choose another name."),
        ("add", {"name": "", "role": "viewer"}, "A name has 1 to 60 characters, this one has 0: change it."),
        ("add", {"name": "Bea", "role": "boss"}, "Expected one of the roles"),
        ("add", {}, "A name has 1 to 60 characters"),
        ("role", {"role": "viewer"}, "This is the last admin: make somebody else admin first."),
        ("leave", {}, "This is the last admin: make somebody else admin first."),
        ("exclude", {"why": " "}, "A reason has 1 to 200 characters"),
    ],
)
def test_a_refusal_is_a_sentence_that_says_what_to_do(
    desk: Desk, ann: str, act: str, fields: dict[str, str], says: str
) -> None:
    said, problem = acted(desk, act, "local", fields)
    assert said == "" and problem.startswith(says)


def test_names_are_shown_as_text_whatever_they_hold(desk: Desk) -> None:
    acted(desk, "add", "", {"name": "<img src=x onerror=alert(1)> ${1}", "role": "viewer"})
    shown = body(desk, "people") + body(desk, "audit") + form(desk, "audit")
    assert "<img src=x" not in shown and "&lt;img src=x" in shown


def test_somebody_whose_votes_are_left_out_is_told_why_on_every_page(
    db: Database, desk: Desk, ann: str, make_group: MakeGroup
) -> None:
    choose(db, make_group(), who=ann)
    said, _ = acted(desk, "exclude", ann, {"why": "picks the first image"})
    assert said == "The votes of Ann are kept and do not count from now on. Ann is told why on every page."
    for here in topbar.PAGES:
        told = topbar.html(desk.services, here, users.get_user(db, ann))
        assert "do not count at present: picks the first image. Ask local about it." in told
        assert "do not count" not in topbar.html(desk.services, here, desk.me)
    accounts.set_password(db, desk.me.id, "hash", desk.me.id)
    assert "Ask local about it." in topbar.html(desk.services, "/rate", users.get_user(db, ann))
    assert snapshots.standing_votes(db) == []
    acted(desk, "include", ann, {})
    assert "do not count" not in topbar.html(desk.services, "/rate", users.get_user(db, ann))
    assert len(snapshots.standing_votes(db)) == 1


def test_who_leaves_out_votes_that_something_learned_from_is_told_to_fit_again(
    db: Database, desk: Desk, ann: str, make_group: MakeGroup
) -> None:
    choose(db, make_group(), who=ann)
    frozen = snapshots.take_snapshot(db, snapshots.standing_votes(db))
    fit = snapshots.record_fit(
        db, kind="weights", snapshot_id=frozen.id, version="v", detail={"weights": {}}, num_pairs=1
    )
    snapshots.set_fit_state(db, fit.id, "applied")
    assert "fit again on the Train page" in acted(desk, "exclude", ann, {"why": "practice"})[0]
    assert "fit again" not in acted(desk, "exclude", "local", {"why": "practice"})[0]


# Assignment


def test_the_rules_are_kept_under_the_keys_that_rating_reads_and_only_what_changed_is_noted(
    db: Database, desk: Desk
) -> None:
    assert acted(desk, "save", "", RULES) == ("Saved. It holds from the next group on.", "")
    assert settings.get_setting(db, "rating.overlap") == {"share": 0.2, "raters": 3}
    assert settings.get_setting(db, "rating.repeat_share") == 0.1
    assert settings.get_setting(db, "rating.modes") == ["best", "stars"]
    assert settings.get_setting(db, "rating.guidelines") == "Look at the hands."
    assert rating_rules.get_rules(db).gold_share == 0.05
    noted = {one.target for one in audit.latest(db)}
    assert noted == {"rating.overlap", "rating.repeat_share", "rating.modes", "rating.guidelines"}
    acted(desk, "save", "", RULES)
    assert len(audit.latest(db)) == 4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"share": "many"}, "The share of groups that several people rate is no number: write 0 to 100."),
        ({"share": "120"}, "The share of groups that several people rate: write 0 to 100, not 120."),
        ({"share": "nan"}, "The share of groups that several people rate: write 0 to 100, not nan."),
        ({"raters": "2.5"}, "People for such a group: write 1 to 100, not 2.5."),
        ({"raters": "0"}, "People for such a group: write 1 to 100, not 0."),
        ({"gold_share": "80"}, "The share of groups with a known answer: write 0 to 50, not 80."),
        ({"modes": ""}, "No way to rate is chosen: choose at least one."),
        ({"guidelines": "x" * 8001}, "Expected guidelines of at most 8000 characters"),
    ],
)
def test_what_cannot_hold_is_refused_and_nothing_of_it_is_kept(
    db: Database, desk: Desk, wrong: dict[str, str], says: str
) -> None:
    said, problem = acted(desk, "save", "", RULES | wrong)
    assert said == "" and problem.startswith(says)
    assert rating_rules.get_rules(db) == rating_rules.Rules() and audit.latest(db) == []
    assert says in body(desk, "assignment", typed=RULES | wrong)


def test_the_preview_says_what_the_rules_mean_before_they_are_saved(
    db: Database, desk: Desk, make_group: MakeGroup
) -> None:
    assert "No group is open" in body(desk, "assignment")
    for _ in range(3):
        make_group()
    typed = RULES | {"share": "100", "gold_share": "0", "repeat_share": "0"}
    said = body(desk, "assignment", typed=typed)
    assert "If you save this:" in said and "Open groups: 3. Ratings that they still want: about 9." in said
    assert "How long that takes is told once somebody has rated." in said
    choose(db, make_group())
    said = body(desk, "assignment", typed=typed)
    assert "Open groups: 4. Ratings that they still want: about 11. At your pace that takes 44 s." in said
    assert "If you save this:" not in body(desk, "assignment")


def test_a_rated_group_becomes_gold_with_what_people_chose_and_is_a_group_again_when_removed(
    db: Database, desk: Desk, make_group: MakeGroup
) -> None:
    view = make_group((0.1, 0.2, 0.3))
    choose(db, view, 1)
    assert f"group={view.group.id}" in body(desk, "assignment")
    offered = form(desk, "assignment", group=view.group.id)
    assert offered.count(" checked>") == 2  # the image that was chosen, and gold
    assert f'value="{view.images[1].image.id}" checked' in offered
    right = view.images[1].image.id
    assert (
        acted(desk, "check", view.group.id, {"accepted": right, "kind": "gold"})[0]
        == "It is a gold group now."
    )
    (made,) = checks.list_checks(db)
    assert (made.item.accepted, made.item.is_practice) == ([right], False)
    assert 'data-act="uncheck"' in body(desk, "assignment")
    fields = {"accepted": right, "kind": "practice", "why": "The eyes match."}
    assert acted(desk, "check", view.group.id, fields)[0] == "It is a practice group now."
    assert checks.list_checks(db)[0].item.why == "The eyes match."
    assert acted(desk, "uncheck", view.group.id, {})[1] == ""
    assert checks.list_checks(db) == []
    assert [one.act for one in audit.latest(db)] == ["check.remove", "check.add", "check.add"]


def test_a_check_that_nobody_could_fail_or_pass_is_refused(desk: Desk, make_group: MakeGroup) -> None:
    view = make_group()
    every = " ".join(one.image.id for one in view.images)
    assert "mark at least one" in acted(desk, "check", view.group.id, {"kind": "gold"})[1]
    assert "an answer must be able to be wrong" in acted(desk, "check", view.group.id, {"accepted": every})[1]
    assert acted(desk, "uncheck", view.group.id, {})[1].startswith("There is no check item")
    assert "There is no such group." in form(desk, "assignment", group="nowhere")


def test_whether_images_say_how_they_were_made_is_switched_off_and_on(db: Database, desk: Desk) -> None:
    assert 'name="carries_text" value="1" checked' in form(desk, "storage")
    assert acted(desk, "image_rules", "", {})[0].startswith("Saved. Images are given without a text")
    assert not image_text.carries_text(db)
    assert 'name="carries_text" value="1">' in form(desk, "storage")
    acted(desk, "image_rules", "", {"carries_text": "1"})
    assert image_text.carries_text(db)


def test_the_rules_of_runs_are_typed_kept_and_refused_in_words(db: Database, desk: Desk) -> None:
    typed = {
        "stall_minutes": "5,5",
        "keep_all_up_to": "30",
        "keep_last": "3",
        "keep_every": "0",
        "end_stalled": "1",
    }
    assert acted(desk, "run_rules", "", typed) == ("Saved. They hold at once, for runs under way too.", "")
    expected = RunRules(stall_minutes=5.5, end_stalled=True, keep_all_up_to=30, keep_last=3, keep_every=0)
    assert run_rules(db) == expected
    for name, value, said in (
        ("stall_minutes", "soon", "expected a number, got soon"),
        ("keep_last", "1", "At least the last 2"),
        ("keep_every", "2.5", "expected a whole number, got 2.5"),
    ):
        assert said in acted(desk, "run_rules", "", typed | {name: value})[1]
    assert run_rules(db) == expected
    assert 'value="5.5"' in form(desk, "storage") and "Keep" not in form(desk, "audit")
