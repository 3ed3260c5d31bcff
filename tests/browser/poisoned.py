"""A data folder in which every text that a person, a file or a model could have written is an attack."""

from __future__ import annotations

from itertools import cycle

from sqlalchemy import select
from sqlalchemy.orm import Session

from flowgrpo.config import RolloutConfig, RunConfig, SamplingConfig
from storage import checkpoints, groups, jobs, prompts, runs
from storage.engine import Database
from storage.models import (
    BaseModel,
    Checkpoint,
    Image,
    Metric,
    RatingEvent,
    Run,
    RunBeat,
    RunEvent,
    Score,
    User,
    WorkerBeat,
)
from storage.models_judging import BlindPair, BlindTest, Evaluation, Job, RewardCard
from storage.models_studio import Audit, Board, BoardImage, CheckItem, Dataset, Export, SavedGrid, Setting
from storage.types import utc_now
from tests.ui.conftest import finished_group

MARK = "__hit"
ATTACKS = (
    f"<script>window.{MARK}=1</script>",
    f"<img src=x onerror=window.{MARK}=2>",
    f"<svg/onload=window.{MARK}=3>",
    f"${{window.{MARK}=4}} `${{window.{MARK}=5}}`",
    f"{{{{constructor.constructor('window.{MARK}=6')()}}}} {{{{7*7}}}}",
    f'"><img src=x onerror=window.{MARK}=7>',
    f"'\" onmouseover=window.{MARK}=8 onfocus=window.{MARK}=8 autofocus x='",
    f"</textarea></title></style></script><script>window.{MARK}=9</script>",
    f"<iframe srcdoc='<script>parent.{MARK}=10</script>'></iframe>",
    f"javascript:window.{MARK}=11",
    f"[x](javascript:window.{MARK}=12) <a href=javascript:window.{MARK}=12>x</a>",
    f"<details open ontoggle=window.{MARK}=13><summary>x</summary></details>",
    f"&lt;img src=x onerror=window.{MARK}=14&gt;",
    f"\\u003cimg src=x onerror=window.{MARK}=15\\u003e <math><mtext></form><mglyph><style></math>",
    f"<!--><img src=x onerror=window.{MARK}=16>-->",
    f"{{% for x in ().__class__.__base__.__subclasses__() %}}{{{{ x }}}}{{% endfor %}}<b id={MARK}>",
    f"<IMG SRC=x OnErRoR=window.{MARK}=17>",
    f"<img src=x onerror\n=\twindow.{MARK}=18>",
    f"<img/src=x/onerror=window.{MARK}=19>",
    f"<img src=x onerror=window['{MARK}']=20 //",
    f"<video><source onerror=window.{MARK}=21></video>",
    f"<audio src=x onerror=window.{MARK}=22></audio>",
    f"<body onload=window.{MARK}=23>",
    f"<input autofocus onfocus=window.{MARK}=24>",
    f"<object data='javascript:parent.{MARK}=25'></object><embed src='javascript:parent.{MARK}=25'>",
    f"<form action='javascript:window.{MARK}=26'><button formaction='javascript:window.{MARK}=26'>x</button>",
    f"<svg><animate onbegin=window.{MARK}=27 attributeName=x dur=1s></svg>",
    f"<svg><script>window.{MARK}=28</script></svg>",
    f"<svg><a xlink:href='javascript:window.{MARK}=29'><text y=9>x</text></a></svg>",
    f"<template><img src=x onerror=window.{MARK}=30></template><slot onslotchange=window.{MARK}=30>",
    f"<style>@import 'javascript:window.{MARK}=31';*{{background:url(javascript:window.{MARK}=31)}}</style>",
    f"<link rel=stylesheet href='javascript:window.{MARK}=32'><base href='javascript:window.{MARK}=32//'>",
    f"<meta http-equiv=refresh content='0;url=javascript:window.{MARK}=33'>",
    f"]]><img src=x onerror=window.{MARK}=34><![CDATA[",
    f"%3Cimg%20src%3Dx%20onerror%3Dwindow.{MARK}%3D35%3E",
    f"\u202e<img src=x onerror=window.{MARK}=36>\u202c",
    f"a\r\nSet-Cookie: x=1\r\n\r\n<script>window.{MARK}=37</script>",
    f'=HYPERLINK("javascript:window.{MARK}=38") @SUM(1) +1 -1',
    f"<scr<script>ipt>window.{MARK}=39</scr</script>ipt>",
    f"'-(window.{MARK}=40)-' \"-(window.{MARK}=40)-\" \\'-(window.{MARK}=40)//",
)


def poison(db: Database, first: int = 0) -> dict[str, str]:
    """Fills the folder; gives the ids that addresses of pages name.

    Args:
        first: which attack comes first: with every one once, each has stood in each place.
    """
    attacks = ATTACKS[first:] + ATTACKS[:first]
    turn = cycle(attacks)
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    views = [
        finished_group(
            db, [0.1, 0.9, None], checkpoint=base, prompt=f"portrait, {attack}",
            config=SamplingConfig(negative_prompt=next(turn)).model_dump(),
        )
        for attack in attacks
    ]  # fmt: skip
    waiting = groups.request_group(
        db, prompt=next(turn), checkpoint_id=base.id, config=SamplingConfig().model_dump(), seeds=[1],
        worker_id="w",
    )  # fmt: skip
    groups.fail_group(db, waiting.id, next(turn))
    prompts.save_prompt_set(db, next(turn), list(attacks[:8]), list(attacks[8:]))
    run_ids = [_run(db, base, attack) for attack in attacks[:6]]
    job = jobs.request_job(db, "agreement", {}, "local")
    with db.write() as session:
        _people_and_files(session, base, turn, [one.image for one in views[0].images], views[1].group.id)
        _judged(session, base, turn, [one.image for one in views[0].images], job)
    _log(db, run_ids[0])
    return {"group": views[0].group.id, "checkpoint": base.id, "run": run_ids[0], "job": job.id}


def _run(db: Database, base: Checkpoint, attack: str) -> str:
    config = RunConfig(
        prompts=[attack],
        held_out_prompts=[f"held out {attack}"],
        rollout=RolloutConfig(num_steps=4),
        reward_weights={"verifier": 1.0, "diversity": 0.2},
    )
    run = runs.create_run(
        db, name=attack, owner_id="local", parent_checkpoint_id=base.id, config=config.model_dump()
    )
    with db.write() as session:
        row = session.get_one(Run, run.id)
        row.state, row.reason, row.attempt = "failed", attack, 1
        session.add(RunEvent(run_id=run.id, attempt=1, kind="warning", detail=attack))
        session.add(
            RunBeat(run_id=run.id, attempt=1, beat_at=utc_now(), update=1, num_updates=2, phase=attack)
        )
        session.add(Metric(run_id=run.id, update=1, name=f"reward/{attack}", value=0.5))
        session.add(Metric(run_id=run.id, update=1, name=f"detail/{attack}/{attack}", value=0.5))
        made = Checkpoint(base_model_id=base.base_model_id, parent_id=base.id, run_id=run.id, name=attack)
        made.update, made.path, made.origin = 1, f"runs/{run.id}", attack
        session.add(made)
    return run.id


def _people_and_files(
    session: Session, base: Checkpoint, turn: cycle[str], images: list[Image], group_id: str
) -> None:
    for attack in ATTACKS:
        session.add(User(name=attack, role="annotator"))
    session.add(BaseModel(name=next(turn), source=next(turn), family=next(turn)))
    board = Board(name=next(turn), created_by="local")
    session.add(board)
    session.flush()
    session.add(BoardImage(board_id=board.id, image_id=images[0].id))
    right = session.scalars(select(Image.id).where(Image.group_id == group_id)).first()
    session.add(
        CheckItem(group_id=group_id, accepted=[right], is_practice=True, why=next(turn), created_by="local")
    )
    session.add(SavedGrid(seq=1, name=next(turn), spec={"title": next(turn)}, created_by="local"))
    session.add(
        Dataset(
            name=next(turn), path=next(turn), num_images=1, detail={"why": next(turn)}, created_by="local"
        )
    )
    session.add(
        Export(checkpoint_id=base.id, layout="kohya", path=next(turn), sha256="0" * 64, created_by="local")
    )
    session.add(Setting(key="rating.guidelines", value=next(turn), changed_by="local"))
    session.add(Audit(user_id="local", act=next(turn), target=next(turn), detail={"name": next(turn)}))


def _judged(session: Session, base: Checkpoint, turn: cycle[str], images: list[Image], job: Job) -> None:
    flags = {"flags": ["other"], "note": next(turn)}
    event = RatingEvent(client_key="poisoned", act_id="poisoned", annotator_id="local", kind="flags")
    event.group_id, event.image_id, event.payload, event.seq = images[0].group_id, images[0].id, flags, 1
    session.add(event)
    for image in images:
        session.add(Score(image_id=image.id, reward=next(turn), version="1", value=None, reason=next(turn)))
    session.add(RewardCard(name=next(turn), detail={"name": next(turn), "words": next(turn)}))
    session.add(WorkerBeat(worker_id="w", pid=1, state="stopped", detail=next(turn), beat_at=utc_now()))
    test = BlindTest(seq=1, name=next(turn), checkpoints=[base.id, base.id], prompts=[next(turn)], seeds=[7])
    test.config, test.created_by = SamplingConfig().model_dump(), "local"
    session.add(test)
    session.flush()
    session.add(
        BlindPair(test_id=test.id, position=0, first_image_id=images[0].id, second_image_id=images[1].id)
    )
    row = session.get_one(Job, job.id)
    row.state, row.reason, row.phase = "failed", next(turn), next(turn)
    measured = Evaluation(checkpoint_id=base.id, metric=next(turn), value=0.5, n=3, extractor=next(turn))
    measured.detail = {"why": next(turn)}
    session.add(measured)


def _log(db: Database, run_id: str) -> None:
    folder = db.home / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.txt").write_text("\n".join(ATTACKS))
