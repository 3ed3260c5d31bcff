"""A secret in the environment is found nowhere afterwards: no log, row, run folder, export or error page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flowgrpo.runs import layout, process
from flowgrpo.runs.dispatcher import Dispatcher
from flowgrpo.runs.export import export_checkpoint
from storage import checkpoints, runs
from storage.engine import Database
from storage.errors import NotSavedError
from storage.models import Checkpoint, Run
from tests.runs.helpers import FAKE, ROOT, begin, fake, new_run, state_of, train, wait_for
from ui.server import create_app

CANARY = {
    "CANARY_TOKEN": "canary-that-nobody-may-hear",
    "HF_TOKEN": "hf_CanaryCanaryCanaryCanary",
    "SOME_PASSWORD": "canary pass phrase",
    "HTTPS_PROXY": "http://canary:canary-proxy-password@127.0.0.1:9",
}
SECRETS = ("canary-that-nobody-may-hear", "CanaryCanaryCanary", "canary pass phrase", "canary-proxy-password")
BLAB = (sys.executable, "-S", str(FAKE), "blab")


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CANARY.items():
        monkeypatch.setenv(name, value)


def heard(home: Path) -> list[str]:
    """Which secrets stand in which files below a folder, the database's own among them."""
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.name == "app.db" for path in files)
    return [
        f"{secret} in {path}" for path in files for secret in SECRETS if secret.encode() in path.read_bytes()
    ]


def test_a_trainer_and_an_engine_that_say_all_they_know_are_not_heard(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are handed the secrets on purpose, which children else do not have."""
    monkeypatch.setenv("FLOWGRPO_PASS", ",".join(CANARY))
    run = new_run(db, tiny)
    dispatcher = Dispatcher(db, devices=("cpu",), trainer=fake("blab"), worker=BLAB).start()
    try:
        wait_for(lambda: state_of(db, run) == "failed", what="the end of the run")
        log = layout.worker_log(db.home, "cpu")
        wait_for(lambda: log.exists() and b"RuntimeError" in log.read_bytes(), what="the engine's last words")
    finally:
        dispatcher.stop()
    said = layout.run_log(db.home, run.id).read_text()
    assert "'CANARY_TOKEN': '***'" in said and "refused with ***" in said  # it did try
    assert "refused with *** by http://canary:***@127.0.0.1:9" in (runs.get_run(db, run.id).reason or "")
    assert heard(db.home) == []


def test_children_do_not_even_have_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = process.child_environment("MARK", "1")
    code = "import os; print(sorted(os.environ.values()))"
    out = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, check=True)
    assert not any(secret.encode() in out.stdout for secret in SECRETS[:3])
    assert "HF_TOKEN" in process.child_environment("MARK", "1", fetches=True)


def test_a_run_with_its_checkpoints_and_exports_holds_no_secret(
    db: Database, tiny: Checkpoint, tmp_path: Path
) -> None:
    run = begin(db, new_run(db, tiny, num_updates=2, samples=0))
    train(db, run)
    made = checkpoints.checkpoints_of_run(db, run.id)[-1]
    for form in ("diffusers", "kohya"):
        export_checkpoint(db, made.id, db.home / f"{form}.safetensors", form)
    assert heard(db.home) == []


def test_reasons_and_events_that_name_a_secret_are_rows_without_it(db: Database, run: Run) -> None:
    claimed = runs.claim_run(db, host="here", boot_id="boot")
    assert claimed is not None
    sentence = f"could not log in with {CANARY['CANARY_TOKEN']}"
    runs.record_event(db, run.id, 1, "warning", sentence)
    runs.end_attempt(db, run.id, 1, reason=sentence)
    assert runs.move(db, run.id, to="failed", from_states=("starting",), reason=sentence)
    assert runs.get_run(db, run.id).reason == "could not log in with ***"
    assert heard(db.home) == []


def test_an_error_page_and_an_error_of_the_api_say_no_secret(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise NotSavedError(f"Not saved: {os.environ['CANARY_TOKEN']} {os.environ['HTTPS_PROXY']}.")

    monkeypatch.setattr(runs, "get_run", refuses)
    with TestClient(create_app(db), base_url="http://127.0.0.1:7860", raise_server_exceptions=False) as web:
        pages = [
            web.get(path).text for path in ("/nothing", "/media/nothing.png", "/library/nothing", "/train")
        ]
        call = web.post("/gradio_api/run/get_run", json={"data": ["x"], "session_hash": "s"})
    assert "***" in call.text, call.text
    assert not any(secret in text for text in [*pages, call.text] for secret in SECRETS)
    assert heard(db.home) == []


def test_the_web_log_is_masked(tmp_path: Path) -> None:
    code = (
        "import sys, logging; from storage.masking import MaskedStream, log_to; "
        "sys.stderr = MaskedStream(sys.stderr); "
        "log_to(logging.StreamHandler(), '%(message)s', logging.WARNING); import os; "
        "logging.warning(os.environ['CANARY_TOKEN']); raise ValueError(os.environ['SOME_PASSWORD'])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ValueError: ***" in out.stderr
    assert not any(secret in out.stderr for secret in SECRETS)
