"""The job "base": a folder is added as the command does it; a hub model is told, then fetched and pinned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flowgrpo.runs import hub
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import catalog, jobs
from storage.engine import Database
from storage.models_judging import Job
from tests.tiny import tiny_sdxl

COMMIT = "c" * 40
FILES = {
    "model_index.json": b'{"_class_name": "StableDiffusionXLPipeline"}',
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"w" * 300_000,
    "unet/diffusion_pytorch_model.fp16.safetensors": b"h" * 150_000,
    "unet/diffusion_pytorch_model.bin": b"p" * 1000,
    "one-file.safetensors": b"o" * 500_000,
    "README.md": b"hello",
}
FETCHED = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
PROGRAM = """
import json, sys
from flowgrpo.runs import hub
model = hub.look(sys.argv[1])
left, seen = [name for name, _ in model.missing], []
hub.fetch(model, seen.append)
print(json.dumps([model.commit, model.size, model.licence, left, seen, model.missing]))
"""


class _Hub(BaseHTTPRequestHandler):
    """One model, as huggingface.co answers about it."""

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if path.startswith("/api/models/them/theirs"):
            siblings = [{"rfilename": one, "size": len(body)} for one, body in FILES.items()]
            card = {"license": "openrail++"}
            facts = {"id": "them/theirs", "sha": COMMIT, "siblings": siblings, "cardData": card}
            self._send(200, json.dumps(facts).encode(), with_body)
        elif name in FILES:
            self._send(200, FILES[name], with_body)
        else:
            self._send(404, b"{}", with_body)

    def _send(self, status: int, body: bytes, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{len(body):040x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Type", "application/json")
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@contextmanager
def hub_at() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def asked(home: Path, address: str, model: str, **more: str) -> subprocess.CompletedProcess[str]:
    known = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    environment = known | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"} | more
    command = [sys.executable, "-c", PROGRAM, model]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def worked(db: Database, payload: dict[str, Any]) -> Job:
    """The job after a worker had it."""
    job = jobs.request_job(db, "base", payload)
    worker = Worker(db, "cpu", WEIGHTS)
    assert worker._did_a_job()
    worker.beacon.end()
    return jobs.get_job(db, job.id)


def test_a_hub_model_is_told_then_fetched_with_progress_and_only_what_a_pipeline_reads(
    tmp_path: Path,
) -> None:
    with hub_at() as address:
        first, second = (asked(tmp_path, address, "them/theirs") for _ in range(2))
        unknown = asked(tmp_path, address, "them/others")
    commit, size, licence, left, seen, missing = json.loads(first.stdout or first.stderr)
    assert (commit, licence, sorted(left), missing) == (COMMIT, "openrail++", FETCHED, [])
    assert size == sum(len(FILES[name]) for name in FETCHED)
    assert seen == sorted(seen)
    assert seen[-1] == size
    assert json.loads(second.stdout)[3:] == [[], [], []]
    assert "the hub has no them/others" in unknown.stderr


def test_a_hub_that_may_not_or_cannot_be_asked_is_told_in_a_sentence(tmp_path: Path) -> None:
    offline = asked(tmp_path, "http://127.0.0.1:9", "them/theirs", HF_HUB_OFFLINE="1")
    assert "them/theirs is on the hub, and this studio is offline (HF_HUB_OFFLINE)" in offline.stderr
    away = asked(tmp_path, "http://127.0.0.1:9", "them/theirs")
    assert "the hub did not answer about them/theirs" in away.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model_index.json", True),
        ("vae/diffusion_pytorch_model.safetensors", True),
        ("text_encoder_3/model-00001-of-00002.safetensors", True),
        ("tokenizer/vocab.json", True),
        ("vae/diffusion_pytorch_model.fp16.safetensors", False),
        ("text_encoder_3/model.fp16-00001-of-00002.safetensors", False),
        ("unet/diffusion_pytorch_model.bin", False),
        ("sd_xl_base_1.0.safetensors", False),
        ("unet/openvino/model.json", False),
    ],
)
def test_of_a_repository_what_a_pipeline_reads_is_wanted(name: str, expected: bool) -> None:
    assert [one for one, _ in hub.wanted([(name, 1)])] == ([name] if expected else [])


def test_a_folder_is_looked_at_and_then_added_as_a_base(db: Database, tmp_path: Path) -> None:
    folder = tiny_sdxl(tmp_path / "portraits")
    looked = worked(db, {"source": str(folder), "look": True})
    assert looked.state == "done", looked.reason
    result = looked.result or {}
    assert result["looked"]
    assert result["size"] == sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    assert catalog.view_bases(db) == []
    added = worked(db, {"source": str(folder), "name": "mine"})
    assert added.state == "done", added.reason
    (base,) = catalog.view_bases(db)
    assert (base.row.name, base.row.family) == ("mine", result["family"])
    assert added.result == {"looked": False, "checkpoint": base.own.id, "name": "mine"}


def test_a_source_that_is_nothing_fails_with_a_sentence(db: Database, tmp_path: Path) -> None:
    failed = worked(db, {"source": str(tmp_path / "nowhere")})
    assert failed.state == "failed"
    assert "there is no folder" in (failed.reason or "")
