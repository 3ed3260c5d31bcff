"""The doors that things from outside come through, each as it is in the product."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from typer.testing import CliRunner

import app
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import datasets, jobs, runs, users
from storage.engine import Database
from storage.models import Checkpoint, Record
from storage.models_judging import Job
from tests.faults.corpus.cases import Answer
from ui import security, tuning, uploads
from ui.library import frame
from ui.services import SHOWN_ERRORS, Services, shown

KEPT = ("blobs", "datasets", "imports", "exports", "runs", "models", "heads")
"""Folders of the data folder in which something is kept for good."""
NOT_STORED = ("job", "audit", "worker_beat")
"""Tables that say what was asked, and not what was taken in."""


class Doors:
    """A data folder with a base, its web and its engine, both in this process.

    Args:
        tiny: a base that can draw.
    """

    def __init__(self, db: Database, tiny: Checkpoint) -> None:
        self.db, self.tiny, self.services = db, tiny, Services(db)
        web = FastAPI()
        security.protect(web)
        web.include_router(uploads.upload_routes(db))
        self.client = TestClient(web, base_url="http://127.0.0.1")
        self.worker = Worker(db, "cpu", WEIGHTS)
        self.worker.cards.publish()
        self.names = iter(range(10**6))

    def try_one(self, door: str, given: Any) -> Answer:
        """Gives something to a door; SHOWN_ERRORS are its sentences, anything else is a crash."""
        try:
            answer: Answer = getattr(self, f"_{door}")(given)
        except SHOWN_ERRORS as error:
            return Answer(shown(error))
        return answer

    def _dataset(self, files: Mapping[str, bytes]) -> Answer:
        parts = [("files", (name, content)) for name, content in files.items()]
        answer = self.client.post("/datasets", data={"name": f"set {next(self.names)}"}, files=parts)
        return self._answered(answer)

    def _recall(self, content: bytes) -> Answer:
        return self._answered(self.client.post("/recall", files={"file": ("image", content)}))

    def _answered(self, answer: Any) -> Answer:
        told = answer.json()
        if answer.status_code == 200:
            return Answer("", is_kept=True, detail=told)
        assert answer.status_code == 400, f"{answer.status_code}: {answer.text}"
        return Answer(told["error"])

    def _adapter(self, given: tuple[str, bytes]) -> Answer:
        answer = self._answered(
            self.client.post("/adapters", data={"base": self.tiny.id}, files={"file": given})
        )
        return self._worked(answer.detail["job"]) if answer.is_kept else answer

    def _base(self, source: str) -> Answer:
        frame.act(self.services, self._person(), "base", "tab=bases", {"source": source, "name": ""})
        return self._worked(jobs.recent_jobs(self.db, "base", 1)[0].id)

    def _worked(self, job_id: str) -> Answer:
        """What the engine made of a job."""
        assert self.worker._did_a_job()
        done: Job = jobs.get_job(self.db, job_id)
        assert done.state in ("done", "failed"), done.state
        if done.state == "done":
            return Answer("", is_kept=True, detail=done.result or {})
        return Answer(shown(done.reason or ""))

    def _prompts(self, fields: Mapping[str, Any]) -> Answer:
        name = {"name": f"prompts {next(self.names)}"}
        done = frame.act(self.services, self._person(), "import", "tab=prompts", name | dict(fields))
        return Answer(done.words, is_kept=True)

    def _folder(self, path: str) -> Answer:
        fields = {"name": f"folder {next(self.names)}", "path": path}
        return Answer(
            frame.act(self.services, self._person(), "point", "tab=datasets", fields).words, is_kept=True
        )

    def _form(self, fields: Mapping[str, Any]) -> Answer:
        form = replace(
            tuning.preset_form("smoke", self.db), **{"prompts": "red hair\nglasses\nhat"} | dict(fields)
        )
        made = tuning.start(self.services, self.tiny.id, form)
        return Answer(made.id, is_kept=True)

    def _run(self, file: Path) -> Answer:
        return self._command(["run", str(file), "--checkpoint", "tiny"])

    def _command(self, words: list[str]) -> Answer:
        home = str(self.db.home)
        said = [word.replace("{home}", home) for word in words]
        done = CliRunner().invoke(app.cli, [*said[:1], "--home", home, *said[1:]])
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        return Answer(done.output, is_kept=done.exit_code == 0)

    def _person(self) -> Any:
        return users.get_user(self.db, users.LOCAL)

    def stored(self) -> dict[str, int]:
        """Rows of every table, and files of every folder, in which something is kept."""
        with self.db.read() as session:
            rows = {
                table.name: session.scalar(select(func.count()).select_from(table)) or 0
                for table in Record.metadata.sorted_tables
                if table.name not in NOT_STORED
            }
        files = {name: sum(1 for _ in (self.db.home / name).rglob("*")) for name in KEPT}
        return rows | files

    def kept_folder(self, answer: Answer) -> Path:
        """Of a dataset that was taken in."""
        return datasets.folder_of(self.db, datasets.get_dataset(self.db, answer.detail["id"]))

    def close(self) -> None:
        """Ends web and engine."""
        self.client.close()
        self.worker.beacon.end()
        assert not runs.list_runs(self.db)


class Growth:
    """How far this process grew at most, bytes, while it was watched."""

    peak = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        process = psutil.Process()
        before, done = process.memory_info().rss, threading.Event()
        self.peak = 0

        def watch() -> None:
            while not done.wait(0.005):
                self.peak = max(self.peak, process.memory_info().rss - before)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
