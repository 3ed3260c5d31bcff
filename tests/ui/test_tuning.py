"""A run starts from a checked form, and its page says how it goes and why it failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage import checkpoints, groups, runs
from storage.engine import Database
from storage.models import Checkpoint, Run, RunState
from tests.ui.conftest import MakeGroup
from ui import preflight, run_acts, run_log, run_view, tuning
from ui.components import span
from ui.components.curves import curves_of, lines_of
from ui.components.plans import Roles
from ui.components.samples import Sample, thinned
from ui.defaults import starter_prompts
from ui.forms import Refused, RunForm
from ui.pages import train
from ui.run_view import Looking
from ui.run_words import saved_update, title
from ui.services import Services


def form(**typed: object) -> RunForm:
    return replace(tuning.preset_form("smoke"), **{"prompts": "portrait, smile\nportrait, buns", **typed})  # type: ignore[arg-type]


def shown_run(services: Services, run_id: str) -> str:
    """All that the page shows of a run."""
    _, *parts = train.draw(services, Looking(run_id), {})
    return "\n".join(parts)


def running(db: Database, run: Run) -> None:
    runs.claim_run(db, host="h", boot_id="b")
    runs.move(db, run.id, to="running", from_states=("starting",), attempt=1)


def test_start_queues_a_run_with_its_whole_config(services: Services, base: Checkpoint) -> None:
    run = tuning.start(services, base.id, form(held_out="portrait, serious"))
    assert (run.state, run.number, run.parent_checkpoint_id) == ("queued", 1, base.id)
    assert run.config["num_updates"] == 2
    assert title(run) == "Run 1 · verifier, 2 updates"


def test_the_default_prompts_are_known_words_and_kept_apart() -> None:
    train_prompts, held_out = starter_prompts()
    assert (len(train_prompts), len(held_out)) == (24, 8)
    assert not set(train_prompts) & set(held_out)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [({"prompts": ""}, "no training prompts"), ({"weights": {"clip": 0}}, "All reward weights are zero")],
)
def test_a_run_without_prompts_or_weights_is_refused_in_the_list_and_at_the_start(
    services: Services, db: Database, base: Checkpoint, typed: dict[str, object], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        tuning.start(services, base.id, form(**typed))
    assert runs.list_runs(db) == []


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(Refused, match="The presets are smoke"):
        tuning.preset_form("overnight")


def levels(services: Services, base: Checkpoint, **typed: object) -> dict[str, str]:
    return {check.text: check.level for check in tuning.check(services, base.id, form(**typed))[1]}


def test_preflight_warns_about_what_often_goes_wrong(services: Services, base: Checkpoint) -> None:
    found = levels(services, base, prompts="wistful cat", weights={"verifier": 1}, group_size=2)
    warned = " ".join(text for text, level in found.items() if level == "warn")
    for words in (
        "none held out",
        "does not know wistful, cat",
        "the verifier gives no score",
        "One reward",
        "Groups of 2",
    ):
        assert words in warned


def test_preflight_names_the_run_ahead(services: Services, base: Checkpoint) -> None:
    tuning.start(services, base.id, form(name="first"))
    assert levels(services, base)["It waits until Run 1 · first has ended."] == "warn"


def test_no_space_and_lost_files_stand_against_a_run(services: Services, base: Checkpoint) -> None:
    config, _ = tuning.check(services, base.id, form())
    facts = preflight.Facts("starter", True, 1_000, 0.01, (), checkpoint_is_there=False)
    assert [check.level for check in preflight.checks(config, facts)].count("bad") == 2


def test_a_checkpoint_whose_files_are_gone_cannot_be_trained_on(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = tuning.start(services, base.id, form())
    running(db, run)
    made = checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=1, name="run 1, update 1", path="runs/x/1", sha256="0" * 64
    )
    with pytest.raises(Refused, match="gone from the disk"):
        tuning.start(services, made.id, form())


def test_the_page_of_a_run_shows_curves_samples_and_checkpoints(
    services: Services, db: Database, base: Checkpoint, make_group: MakeGroup
) -> None:
    run = tuning.start(services, base.id, form())
    running(db, run)
    for update in (1, 2):
        runs.record_metrics(
            db,
            run.id,
            1,
            update,
            {"reward/verifier": 0.5 + update / 10, "policy/kl": 0.1, "groups/dead_share": 0.25},
        )
        make_group([0.5], kind="sample", run_id=run.id, update=update)
    runs.beat(db, run.id, 1, 2, 2, "saving", 3.0)
    checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=2, name="run 1, update 2", path="runs/x/2", sha256="0" * 64
    )
    html = shown_run(services, run.id)
    for words in (
        "saving · update 2 of 2",
        "0.700",
        "25%",
        "update 1 → 2",
        "run 1, update 2",
        "Stop and save",
    ):
        assert words in html


def test_a_failed_run_says_why_with_the_end_of_its_log(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = tuning.start(services, base.id, form(name="<b>mine</b>"))
    running(db, run)
    folder = db.home / "runs" / run.id
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes(b"10%\r20%\rdone\n\x1b[31mout of memory\x1b[0m <script>\n")
    runs.move(
        db,
        run.id,
        to="failed",
        from_states=("running",),
        attempt=1,
        reason="Out of memory.\n\nEnd of the log:\nx",
    )
    html = shown_run(services, run.id)
    assert "Out of memory." in html and "&lt;script&gt;" in html and "\x1b" not in html
    assert "<b>mine" not in html and "Resume" in html
    assert run_log.log_tail(db, run.id).startswith("done\n")


def committed(db: Database, run: Run, update: int) -> None:
    checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=update, name=f"update {update}", path="p", sha256="0" * 64
    )


def at_rest(
    services: Services, db: Database, base: Checkpoint, saved: int, state: RunState, reason: str
) -> Run:
    """A run that came to rest after three of five updates; `saved` is the one with a checkpoint, 0 none."""
    run = tuning.start(services, base.id, form())
    running(db, run)
    runs.beat(db, run.id, 1, 3, 5)
    if saved:
        committed(db, run, saved)
    runs.move(db, run.id, to=state, from_states=("running",), attempt=1, reason=reason)
    return run


@pytest.mark.parametrize(
    ("state", "reason", "saved", "kept"),
    [
        ("paused", "The disk is too full.", 0, "No update was saved yet: Resume begins again."),
        (
            "paused",
            "The disk is too full.",
            2,
            "Saved up to update 2 of the 3 that were made: Resume goes on",
        ),
        ("stopped", "It did not stop in time and was ended by force.", 2, "Saved up to update 2 of the 3"),
        ("stopped", "stopped by request", 3, "Stopped by request. Update 3 is saved: Resume goes on"),
        ("lost", "The machine was restarted.", 1, "Saved up to update 1 of the 3"),
    ],
)
def test_a_run_that_came_to_rest_says_why_and_what_of_it_is_kept(
    services: Services, db: Database, base: Checkpoint, state: RunState, reason: str, saved: int, kept: str
) -> None:
    run = at_rest(services, db, base, saved, state, reason)
    html = shown_run(services, run.id)
    assert reason[1:] in html and kept in html and 'data-act="resume"' in html


@pytest.mark.parametrize(
    ("saved", "words"), [(0, "stopped, nothing saved yet"), (2, "stopped, saved at update 2")]
)
def test_a_run_says_saved_only_of_an_update_that_has_its_checkpoint(
    services: Services, db: Database, base: Checkpoint, saved: int, words: str
) -> None:
    run = at_rest(services, db, base, saved, "stopped", "Ended by force.")
    assert words in shown_run(services, run.id)
    assert words in run_view.list_html(services, Looking(run.id))


def test_a_checkpoint_that_is_damaged_does_not_count_as_saved(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = tuning.start(services, base.id, form())
    running(db, run)
    for update in (1, 2):
        committed(db, run, update)
    checkpoints.mark_checkpoint(db, checkpoints.checkpoints_of_run(db, run.id)[-1].id, "bad")
    assert saved_update(checkpoints.list_checkpoints(db), run.id) == 1


def test_stop_and_resume_do_what_the_state_allows(services: Services, db: Database, base: Checkpoint) -> None:
    run = tuning.start(services, base.id, form())
    assert run_acts.acted(services, run.id, "stop", run.id) == ("", run.id)
    assert runs.get_run(db, run.id).state == "canceled"
    problem, shown = run_acts.acted(services, run.id, "resume", run.id)
    assert "is canceled" in problem and shown == run.id
    assert run_acts.acted(services, run.id, "open", "other") == ("", "other")


def test_a_long_history_is_thinned_and_keeps_its_ends() -> None:
    samples = [Sample(update, []) for update in range(100)]
    assert [sample.update for sample in thinned(samples)][:: len(samples)] == [0]
    assert thinned(samples)[-1].update == 99
    assert len(thinned(samples)) == 10


def test_a_curve_ends_where_its_last_value_is(services: Services, db: Database, base: Checkpoint) -> None:
    run = tuning.start(services, base.id, form())
    running(db, run)
    for update in range(1, 1001):
        runs.record_metrics(db, run.id, 1, update, {"reward/clip": update / 1000}) if update in (
            1,
            2,
            1000,
        ) else None
    curve = curves_of(lines_of(runs.metrics_since(db, run.id, -1)), Roles({"clip": 0.3}))[0]
    assert (curve.title, curve.last, curve.low, curve.high) == ("clip × 0.3", "1.000", "0.001", "1.000")
    assert curve.path.startswith("M4.0 92.0") and curve.path.endswith("296.0 4.0")


def test_gates_and_monitors_have_curves_of_their_own(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = tuning.start(services, base.id, form())
    running(db, run)
    numbers = {"gate/safety": 0.25, "monitor/pixel_stats": 0.4, "detail/pixel_stats/jpeg bits": 2.0}
    looks = {"detail/pixel_stats/saturation": 0.4, "monitor/other": 1.0}
    runs.record_metrics(db, run.id, 1, 1, {"reward/clip": 0.5} | numbers | looks)
    lines = lines_of(runs.metrics_since(db, run.id, -1))
    curves = curves_of(lines, Roles({"clip": 0.3}, gates=["safety"], monitors=["pixel_stats"]))
    assert [(curve.title, curve.last) for curve in curves] == [
        ("clip × 0.3", "0.500"),
        ("safety: failed", "25%"),
        ("pixel_stats, watched", "0.4"),
        ("pixel_stats: jpeg bits", "2"),
    ]


def test_each_judge_of_the_samples_has_a_curve_of_its_own(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = tuning.start(services, base.id, form(weights={"clip": 0.3}, judges="quality"))
    running(db, run)
    judged = {"held_out/quality": 0.4, "held_out_error/quality": 0.0}
    runs.record_metrics(db, run.id, 1, 0, judged)
    rewarded = {"held_out/clip": 0.6, "held_out_error/clip": 0.1, "reward/clip": 0.5}
    runs.record_metrics(db, run.id, 1, 1, judged | rewarded)
    curves = curves_of(lines_of(runs.metrics_since(db, run.id, -1)), Roles({"clip": 0.3}))
    assert [curve.title for curve in curves] == ["clip × 0.3", "quality, never a reward"]


@pytest.mark.parametrize(
    ("held_out", "words"), [("", "dashed: fixed samples"), ("portrait, mohawk", "dashed: held out")]
)
def test_a_curve_is_called_held_out_only_where_prompts_were(
    services: Services, db: Database, base: Checkpoint, held_out: str, words: str
) -> None:
    run = tuning.start(services, base.id, form(held_out=held_out))
    running(db, run)
    runs.record_metrics(db, run.id, 1, 1, {"reward/verifier": 0.5, "held_out/verifier": 0.4})
    html = shown_run(services, run.id)
    assert words in html and html.count("dashed: ") == 1


@pytest.mark.parametrize(
    ("preset", "told"),
    [
        ("smoke", ("distance from the base", "healthy: grows slowly")),
        ("fast and faithful", ("distance, guided base", "healthy: falls")),
    ],
)
def test_a_run_that_is_held_to_the_guided_base_comes_closer_to_it(
    services: Services, db: Database, base: Checkpoint, preset: str, told: tuple[str, str]
) -> None:
    run = tuning.start(services, base.id, replace(tuning.preset_form(preset), prompts="portrait, smile"))
    running(db, run)
    runs.record_metrics(db, run.id, 1, 1, {"policy/kl": 0.1})
    html = shown_run(services, run.id)
    assert all(words in html for words in told)


def test_a_run_says_where_it_is_held_and_how_its_passes_are_cut(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = tuning.start(
        services, base.id, replace(tuning.preset_form("fast and faithful"), prompts="portrait, smile")
    )
    with db.write() as session:
        row = session.get(Run, run.id)
        assert row is not None
        row.config = row.config | {"update": row.config["update"] | {"kl_steps": 1, "minibatches": 4}}
    html = shown_run(services, run.id)
    assert "to the base at guidance 3, at 1 of the other steps too" in html
    assert "falling to 0, in 4 minibatches" in html


def test_the_estimate_counts_the_backward_passes_and_the_reference(
    services: Services, base: Checkpoint
) -> None:
    config, _ = tuning.check(
        services, base.id, form(num_steps=8, guidance_scale=1, group_size=4, groups_per_update=2)
    )
    assert config.update.kl_weight > 0
    evaluations = config.num_updates * 8 * (8 + 3 * 3 + 3)
    facts = preflight.Facts("starter", True, 10**12, 0.5, [], True)
    said = [check.text for check in preflight.checks(config, facts)]
    assert f"About {span(evaluations * 0.5)}: 2 updates." in said
    assert groups.queued_count(services.db) == 0
