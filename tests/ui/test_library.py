"""The Library without a browser: what an address shows, and what its buttons do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from storage import boards, catalog, checkpoints, exports, jobs, prompts, runs, scores, users
from storage.engine import Database
from storage.models import Checkpoint
from storage.types import new_id
from tests.ui.conftest import MakeGroup
from ui.components import topbar
from ui.forms import Refused
from ui.language import catalog as words_of
from ui.library import frame
from ui.library.images import filters_of
from ui.library.routes import library_routes
from ui.library.shelf import Done, address, parsed, size_words
from ui.services import Services

NASTY = "<img src=x onerror=alert(1)> ${alert(2)} {{7*7}}"


def html(services: Services, **query: str) -> str:
    return frame.html(services, address(query), 0)


def do(services: Services, tab: str, act: str, /, **fields: Any) -> Done:
    person = users.get_user(services.db, users.LOCAL)
    return frame.act(services, person, act, f"tab={tab}", fields)


def imported(services: Services, text: str, /, **fields: str) -> Mapping[str, str]:
    said: dict[str, str] = {"name": "hair", "text": text, "by": "share", "share": "20"} | fields
    done = do(services, "prompts", "import", **said)
    assert done.query is not None
    return done.query


def texts(db: Database, set_id: str) -> tuple[list[str], list[str]]:
    train, held_out = (prompts.prompts_of(db, set_id, split) for split in ("train", "held_out"))
    return [row.text for row in train], [row.text for row in held_out]


def test_every_tab_is_an_address_and_an_unknown_one_shows_the_first(services: Services) -> None:
    for tab in frame.TABS:
        assert f'href="/library?tab={tab.name}" data-nav aria-current="page"' in html(services, tab=tab.name)
    assert frame.tab_of("tab=nonsense") is frame.tab_of("") is frame.TABS[0]
    assert "/library" in topbar.PAGES


def test_an_address_is_written_and_read_as_the_same_names_and_values() -> None:
    query = {"tab": "images", "q": "red hair & “smile”", "empty": ""}
    assert parsed(address(query)) == {"tab": "images", "q": "red hair & “smile”"}
    assert parsed("q=a&q=b&x=%20") == {"q": "b"}


def test_every_word_of_the_library_is_said_in_both_languages() -> None:
    english, japanese = (
        {key: set(re.findall(r"{\w+}", said)) for key, said in words_of(one).items() if key[:8] == "library."}
        for one in ("en", "ja")
    )
    assert english == japanese


# Prompt sets


def test_a_list_is_looked_at_before_it_is_kept_and_looking_keeps_nothing(services: Services) -> None:
    done = do(services, "prompts", "import", text="fox\nFox\nbird", by="share", share="0", way="preview")
    assert done.preview is not None
    assert done.preview[1]["notes"] == ("1 duplicate was left out: line 2.",)
    assert prompts.list_prompt_sets(services.db) == []


def test_an_imported_list_is_a_set_and_again_under_its_name_a_version(services: Services) -> None:
    first = imported(services, "fox\nbird\ncat\ndog")
    train, held_out = texts(services.db, first["set"])
    assert (len(train), len(held_out)) == (3, 1)
    second = imported(services, "fox\nbird\ncat\ndog\nowl")
    assert set(texts(services.db, second["set"])[1]) >= set(held_out)
    shown = html(services, **second)
    assert "version 2" in shown
    assert "1 added" in shown
    assert f"set={first['set']}" in shown
    assert "This is an older version" in html(services, **first)


def test_the_same_list_makes_no_version(services: Services) -> None:
    first = imported(services, "fox\nbird")
    done = do(services, "prompts", "import", name="hair", text="fox\nbird", by="share", share="20")
    assert done.query == first
    assert done.words == "hair says exactly this already, in version 1."


def test_a_list_says_itself_what_is_held_out(services: Services) -> None:
    made = imported(services, "prompt,split\nfox,train\nbird,held_out\ncat,", by="list")
    assert texts(services.db, made["set"]) == (["fox", "cat"], ["bird"])
    with pytest.raises(Refused, match="does not say which"):
        imported(services, "fox\nbird", by="list")
    with pytest.raises(Refused, match="at least one to train on"):
        imported(services, "prompt,split\nfox,test", by="list")


def test_both_splits_can_be_changed_and_what_stands_beside_a_prompt_stays(services: Services) -> None:
    made = imported(services, "fox --w 512\nbird", share="0")
    done = do(services, "prompts", "edit", set=made["set"], train="fox\ncat", held_out="bird\n")
    assert done.query is not None
    assert texts(services.db, done.query["set"]) == (["fox", "cat"], ["bird"])
    assert prompts.prompts_of(services.db, done.query["set"], "train")[0].attributes == {"width": 512}
    with pytest.raises(Refused, match="Meanwhile there is version 2"):
        do(services, "prompts", "edit", set=made["set"], train="owl", held_out="")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": " "}, "has no name"),
        ({"name": "x" * 81}, "shorten it"),
        ({"share": "95"}, "from 0 to 90"),
        ({"share": "many"}, "whole number"),
        ({"text": ""}, "no prompts"),
    ],
)
def test_a_list_that_cannot_be_kept_is_refused_in_a_sentence(
    services: Services, fields: dict[str, str], words: str
) -> None:
    others = {name: value for name, value in fields.items() if name != "text"}
    with pytest.raises(Refused, match=words):
        imported(services, fields.get("text", "fox\nbird"), **others)
    assert prompts.list_prompt_sets(services.db) == []


def test_a_downloaded_set_is_imported_as_the_same_set(services: Services) -> None:
    listed = "prompt,split,seed\nfox,train,7\nbird,test,"
    made = imported(services, listed, name="Füchse & Co", by="list")
    app = FastAPI()
    app.include_router(library_routes(services.db))
    client = TestClient(app)
    for ending in ("txt", "csv", "jsonl"):
        told = client.get(f"/library/prompts/{made['set']}.{ending}")
        again = imported(services, told.text, name=f"copy {ending}", file=f"copy.{ending}", by="list")
        assert texts(services.db, again["set"]) == texts(services.db, made["set"])
        beside = [one.attributes for one in prompts.prompts_of(services.db, again["set"], "train")]
        assert beside == [{"seed": 7}]
    assert "filename*=UTF-8''F%C3%BCchse%20%26%20Co-1.jsonl" in told.headers["content-disposition"]
    plain = client.get(f"/library/prompts/{made['set']}.txt").text
    assert plain == "# split: train\nfox --d 7\n# split: held_out\nbird\n"
    assert client.get("/library/prompts/nobody.txt").status_code == 404
    assert client.get(f"/library/prompts/{made['set']}.exe").status_code == 404


# Images


def test_a_search_stands_in_the_address_and_its_pages_follow_each_other(
    services: Services, make_group: MakeGroup
) -> None:
    for number in range(9):
        make_group([0.5] * 8, prompt="red hair" if number else "blue hair")
    first = html(services, tab="images", q="red")
    assert first.count("<figure>") == 60
    assert "64 match" in first
    found = re.search(r'id="next-page" href="/library\?([^"]+)"', first)
    assert found is not None
    second = frame.html(services, found[1].replace("&amp;", "&"), 0)
    assert second.count("<figure>") == 4
    assert 'value="red"' in second
    shown = [set(re.findall(r'id="open-([^"]+)"', page)) for page in (first, second)]
    assert shown[0].isdisjoint(shown[1])


def test_no_full_size_file_is_asked_for_before_an_image_is_opened(
    services: Services, make_group: MakeGroup
) -> None:
    image = make_group([0.1, 0.9]).images[0].image
    assert "/media/thumb/" in html(services, tab="images")
    assert f"/media/{image.id}.png" not in html(services, tab="images")
    opened = html(services, tab="images", image=image.id)
    assert f"/media/{image.id}.png" in opened
    assert f"/?group={image.group_id}" in opened


def test_images_are_put_on_a_board_and_taken_off_it(services: Services, make_group: MakeGroup) -> None:
    first, second = (one.image.id for one in make_group([0.1, 0.9]).images)
    do(services, "images", "add", new="Best", images=[first, second])
    (board,) = boards.list_boards(services.db)
    assert (board.board.name, board.count) == ("Best", 2)
    do(services, "images", "take", board=board.board.id, images=first)
    shown = html(services, tab="images", board=board.board.id)
    assert (f"open-{first}" in shown, f"open-{second}" in shown) == (False, True)
    with pytest.raises(Refused, match="No image is chosen"):
        do(services, "images", "add", board=board.board.id)
    with pytest.raises(Refused, match="Choose a board"):
        do(services, "images", "add", images=[first])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"low": "0.5"}, "needs a reward"),
        ({"reward": "clip", "low": "2", "high": "1"}, "swap the two"),
        ({"reward": "clip", "low": "much"}, "number"),
        ({"rated": "twice"}, "choose from the list"),
        ({"flag": "'; DROP"}, "choose from the list"),
        ({"stars": "9"}, "from 1 to 5"),
        ({"since": "yesterday"}, "2026-01-31"),
    ],
)
def test_a_search_that_is_none_is_refused_in_a_sentence(query: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        filters_of(query)


# Checkpoints, bases, rewards, datasets


def test_a_checkpoint_is_renamed_and_each_base_has_one_candidate_at_most(
    services: Services, base: Checkpoint
) -> None:
    do(services, "checkpoints", "rename", checkpoint=base.id, name=" my  base ")
    do(services, "checkpoints", "promote", id=base.id)
    (one,) = catalog.view_checkpoints(services.db)
    assert one.row.name == "my base"
    assert one.row.promoted_at is not None
    assert "candidate since" in html(services, tab="checkpoints", checkpoint=base.id)
    do(services, "checkpoints", "withdraw", id=base.id)
    assert catalog.view_checkpoint(services.db, base.id).row.promoted_at is None
    with pytest.raises(ValueError, match="1 to 120 characters"):
        do(services, "checkpoints", "rename", checkpoint=base.id, name=" ")


def test_a_base_is_asked_for_as_a_job_that_says_how_far_it_is_and_can_be_given_up(services: Services) -> None:
    do(services, "bases", "base", source="segmind/SSD-1B", way="look")
    (job,) = jobs.recent_jobs(services.db, "base")
    assert job.payload["look"]
    assert "Waits; 0 ahead of it." in html(services, tab="bases")
    assert jobs.claim_job(services.db, "w") is not None
    jobs.report_progress(services.db, job.id, "fetching", 2_500_000_000, 5_000_000_000)
    shown = html(services, tab="bases")
    assert "fetching · 2.5 GB / 5.0 GB" in shown
    assert 'aria-valuenow="50"' in shown
    do(services, "bases", "cancel-base", id=job.id)
    assert jobs.get_job(services.db, job.id).state == "canceled"
    with pytest.raises(Refused, match="nothing to cancel"):
        do(services, "bases", "cancel-base", id=job.id)
    with pytest.raises(Refused, match="Say where the base is"):
        do(services, "bases", "base", source=" ")


def test_what_was_found_out_about_a_base_is_told_with_its_licence_before_it_is_added(
    services: Services,
) -> None:
    do(services, "bases", "base", source="segmind/SSD-1B", way="look")
    (job,) = jobs.recent_jobs(services.db, "base")
    jobs.claim_job(services.db, "w")
    facts = {"family": "sdxl", "size": 5e9, "left": 4e9, "licence": "apache-2.0", "gated": False}
    jobs.finish_job(services.db, job.id, {"looked": True, **facts})
    shown = html(services, tab="bases")
    assert "sdxl, 5.0 GB, licence: apache-2.0. 4.0 GB are still to be fetched." in shown
    assert 'name="source" value="segmind/SSD-1B"' in shown


def card(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "title": name, "kind": "pointwise", "measures": f"what {name} is", "low": -1.0,
        "high": 1.0, "direction": "higher is better", "needs": [], "threshold": None, "licence": "MIT",
        "size_mb": 12.0, "embedded": True, "device": "cpu", "options": "", "missing": [], "state": "here",
        "weights": "here", "notice": "", "notice_sha256": "", "accepted": True,
    } | more  # fmt: skip


def test_a_reward_waits_until_its_notice_is_accepted_as_it_stood_there(services: Services) -> None:
    told = card("aesthetic", notice=f"Research only. {NASTY}", notice_sha256="a" * 64)
    scores.publish_cards(services.db, {"aesthetic": told, "clip": card("clip")})
    shown = html(services, tab="rewards")
    assert "Waits for its notice to be accepted" in shown
    assert NASTY not in shown
    with pytest.raises(Refused, match="read it again"):
        do(services, "rewards", "accept", reward="aesthetic", sha256="b" * 64)
    do(services, "rewards", "accept", reward="aesthetic", sha256="a" * 64)
    assert "Notice, accepted" in html(services, tab="rewards")
    assert shown.index('id="reward-clip"') < shown.index('id="reward-aesthetic"')


def test_names_and_prompts_that_look_like_code_are_shown_as_they_are(
    services: Services, base: Checkpoint, make_group: MakeGroup
) -> None:
    make_group([0.1], prompt=NASTY)
    image = make_group([0.1], prompt=NASTY).images[0].image.id
    do(services, "images", "add", new=NASTY, images=[image])
    made = imported(services, f"{NASTY}\nfox", name=NASTY)
    do(services, "checkpoints", "rename", checkpoint=base.id, name=NASTY)
    do(services, "bases", "base", source=NASTY)
    pages = [
        html(services, tab="images", image=image),
        html(services, tab="prompts"),
        html(services, **made),
        html(services, **made, edit="1"),
        html(services, tab="checkpoints", q=NASTY),
        html(services, tab="checkpoints", checkpoint=base.id),
        html(services, tab="bases"),
    ]
    for page in pages:
        assert "<img src=x" not in page
        assert "&lt;img src=x onerror=alert(1)&gt; ${alert(2)} {{7*7}}" in page


def test_sizes_are_said_as_people_say_them() -> None:
    assert [size_words(size) for size in (0, 512, 8_400_000, 6_900_000_000, 250_000_000_000)] == [
        "0 B", "512 B", "8.4 MB", "6.9 GB", "250 GB",
    ]  # fmt: skip


def test_a_button_that_no_tab_has_is_refused_and_not_a_bug(services: Services) -> None:
    with pytest.raises(Refused, match="reload it"):
        do(services, "images", "import", text="fox")


def test_a_checkpoint_is_written_for_each_program_or_whole_with_what_loads_it_there(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = runs.create_run(db, name="a", owner_id="local", parent_checkpoint_id=base.id, config={})
    made = checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=0, update=3, name="soft light", path="p", sha256="0" * 64
    )
    page = unescape(html(services, tab="checkpoints", checkpoint=made.id))
    assert re.findall('data-layout="(\\w+)"', page) == ["kohya", "kohya", "diffusers", "merged"]
    do(services, "checkpoints", "export", id=made.id, layout="merged")
    assert jobs.recent_jobs(db, exports.KIND)[0].payload["layout"] == "merged"
    assert "waits for the engine" in html(services, tab="checkpoints", checkpoint=made.id)
    ids = {layout: new_id() for layout in (*exports.LAYOUTS, exports.MERGED)}
    for layout, export_id in ids.items():
        exports.record_export(
            db, export_id=export_id, checkpoint_id=made.id, layout=layout, sha256="0" * 64,
            path=f"exports/{layout}", created_by="local",
        )  # fmt: skip
    page = unescape(html(services, tab="checkpoints", checkpoint=made.id))
    for words in (
        f'href="/exports/{ids["kohya"]}" download="soft-light-kohya.safetensors"',
        f'href="/exports/{ids["diffusers"]}/card"', "<code>ComfyUI/models/loras/</code>",
        "<lora:soft-light-kohya:1>", 'pipe.load_lora_weights("soft-light-diffusers.safetensors")',
        "pipe = StableDiffusionXLPipeline.from_pretrained(", "<code>exports/merged</code>",
        'pipe = StableDiffusionXLPipeline.from_pretrained("soft-light-merged")',
    ):  # fmt: skip
        assert words in page, words


def test_a_checkpoint_of_a_run_is_kept_and_let_go_again(
    services: Services, db: Database, base: Checkpoint
) -> None:
    run = runs.create_run(db, name="a", owner_id="local", parent_checkpoint_id=base.id, config={})
    made = checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=0, update=3, name="three", path="p", sha256="0" * 64
    )
    page = html(services, tab="checkpoints", checkpoint=made.id)
    assert 'data-act="pin"' in page and 'data-act="unpin"' not in page
    assert do(services, "checkpoints", "pin", id=made.id).words == "The files of three are kept."
    assert 'data-act="unpin"' in html(services, tab="checkpoints", checkpoint=made.id)
    assert "kept</span>" in html(services, tab="checkpoints", all="1")
    do(services, "checkpoints", "unpin", id=made.id)
    assert not checkpoints.get_checkpoint(db, made.id).pinned
    assert 'data-act="pin"' not in html(services, tab="checkpoints", checkpoint=base.id)
