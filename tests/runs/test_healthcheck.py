"""What a container's health check says, of the studio and of a host that works."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flowgrpo.runs import healthcheck
from flowgrpo.runs.layout import dispatcher_lock


class Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()
        self.wfile.write(b'{"status": "said"}')

    def log_message(self, *_: object) -> None:
        """Nothing to a test's output."""


@pytest.fixture
def web() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_web_is_as_well_as_its_own_answer_says(
    web: HTTPServer,
    status: int,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Health, "status", status)
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(web.server_port))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a container's proxy is not asked for loopback
    assert healthcheck.main([]) == code
    assert capsys.readouterr().out == '{"status": "said"}\n'


def test_a_web_that_does_not_listen_is_not_well() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        is_well, said = healthcheck.of_web(taken.getsockname()[1])
    assert not is_well
    assert "nothing answers on port" in said


def test_a_worker_is_well_as_long_as_its_own_dispatcher_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://studio@127.0.0.1:1/studio?password_file=/nowhere")
    monkeypatch.setenv("FLOWGRPO_HOST", "worker")
    monkeypatch.setenv("FLOWGRPO_HOME", str(tmp_path))
    assert healthcheck.main(["worker"]) == 1
    lock = dispatcher_lock(tmp_path)
    assert lock.parent.name == "worker", "not the studio's, which is on the same folder"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert healthcheck.main(["worker"]) == 0
    now = lock.stat().st_mtime
    assert healthcheck.of_worker(tmp_path, now + healthcheck.SILENT_SECONDS + 1)[0] is False
    assert "failing" in healthcheck.of_worker(tmp_path, now + healthcheck.SILENT_SECONDS + 1)[1]
    assert '"status": "ok"' in capsys.readouterr().out


def test_another_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck.main(["web"]) == 1
    assert "expected nothing or the word worker" in capsys.readouterr().out
