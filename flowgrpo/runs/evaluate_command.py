"""`python app.py evaluate`: checkpoints on prompts at equal seeds, measured without a browser.

The job goes through the rows and the worker that the studio uses: what one of them has drawn or measured
the other finds. No torch here: the worker has it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flowgrpo.config import SamplingConfig
from flowgrpo.runs import layout
from flowgrpo.runs.local import POLL_SECONDS, dispatching
from storage import checkpoints, jobs
from storage.engine import Database, open_database
from storage.evaluations import request_evaluation
from storage.models_judging import Job

FORMS = {
    ".md": "table.md",
    ".csv": "table.csv",
    ".tex": "table.tex",
    ".json": "result.json",
    ".png": "plot.png",
}
"""Ending of the file that is asked for, to the result's own file."""
Say = Callable[[str], object]


def main(argv: Sequence[str] | None = None, say: Say = print) -> int:
    """Entry point; returns the exit code."""
    given = _parser().parse_args(argv)
    db = open_database(given.home.resolve())
    try:
        job = run_to_its_end(db, payload_of(db, given), say)
        if job.state != "done":
            say(f"The evaluation was {job.state}: {job.reason or 'nobody said why'}")
            return 1
        for path in given.out or []:
            shutil.copyfile(layout.evaluation_folder(db.home, job.id) / FORMS[path.suffix], path)
            say(f"wrote {path}")
        if not given.out:
            say((layout.evaluation_folder(db.home, job.id) / FORMS[".md"]).read_text(encoding="utf-8"))
    except (LookupError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    finally:
        db.close()
    return 0


def payload_of(db: Database, given: argparse.Namespace) -> dict[str, Any]:
    """What is asked, as the job keeps it; ValueError or LookupError with a sentence."""
    if unknown := [path.name for path in given.out or [] if path.suffix not in FORMS]:
        raise ValueError(f"{unknown[0]} has an ending that no table has: name a file {', '.join(FORMS)}")
    size = re.fullmatch(r"(\d{2,4})(?:x(\d{2,4}))?", given.size)
    if not size:
        raise ValueError(f'expected a size in pixels, as in "64" or "832x1216", got "{given.size}"')
    try:
        config = SamplingConfig(
            num_steps=given.steps, guidance_scale=given.guidance, negative_prompt=given.negative,
            width=int(size[1]), height=int(size[2] or size[1]),
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{first['loc'][0]} cannot be used: {first['msg']}, got {first['input']}") from error
    return {
        "checkpoints": [checkpoints.named_checkpoint(db, name).id for name in given.checkpoints],
        "prompts": _prompts(given.prompts),
        "seeds": numbers(given.seeds),
        "config": config.model_dump(),
        "steps": numbers(given.sweep) if given.sweep else [],
        "metrics": given.metrics.split(",") if given.metrics else None,
        "allow_small_fid": given.allow_small_fid,
        "references": str(given.references.resolve()) if given.references else None,
    }


def run_to_its_end(db: Database, payload: dict[str, Any], say: Say) -> Job:
    """Queues an evaluation and says each step of its progress; Ctrl+C cancels it and keeps what it has."""
    job = request_evaluation(db, payload)
    with dispatching(db):
        try:
            return _followed(db, job.id, say)
        except KeyboardInterrupt:
            jobs.cancel_job(db, job.id)
            return jobs.get_job(db, job.id)


def _followed(db: Database, job_id: str, say: Say) -> Job:
    last = ""
    while True:
        job = jobs.get_job(db, job_id)
        if job.state not in ("queued", "running"):
            return job
        told = f"{job.phase or job.state}: {job.done:,} of {job.total:,} images"
        if told != last:
            say(told)
        last = told
        time.sleep(POLL_SECONDS)


def numbers(text: str) -> list[int]:
    """Whole numbers: `0-3`, `4,8,16`, or both; ValueError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        if not match or int(match[2] or match[1]) - int(match[1]) not in range(10_000):
            raise ValueError(f'expected whole numbers as in "0-3" or "4,8,16", got "{text}"')
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found


def _prompts(path: Path) -> list[str]:
    """One prompt a line, blank lines passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    return [line.strip() for line in lines if line.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="app.py evaluate", description="Measures checkpoints.")
    add = parser.add_argument
    add(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT",
        help="name or id; the others are held against the first",
    )
    add("--prompts", type=Path, required=True, help="a text file, one prompt a line; none of them trained on")
    add("--seeds", default="0-3", help="the same for every prompt and checkpoint: 0-3, or 4,8,15")
    add("--steps", type=int, default=16, help="denoising steps")
    add("--guidance", type=float, default=3.0, help="1 for none")
    add("--negative", default="", help="what guidance steers away from")
    add("--size", default="64", help="pixels: 64, or width x height as in 832x1216")
    add(
        "--sweep",
        default="",
        help="several numbers of steps, as in 4,8,16: quality against steps and seconds",
    )
    add("--metrics", default="", help="names, as in judge,kid,clip; the usual ones when left out")
    add("--references", type=Path, help="a folder of images that all should look like")
    add(
        "--allow-small-fid",
        action="store_true",
        help="show FID, precision and recall of few images, labelled",
    )
    add(
        "--out",
        type=Path,
        action="append",
        help=f"a file to write, {', '.join(FORMS)}; may be given several times",
    )
    add("--home", type=Path, default=Path("data"), help="the data folder")
    return parser
