"""The web process is small, keeps to this machine, and answers its own pages only."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gradio.blocks
import gradio.routes
import pytest
from fastapi.testclient import TestClient

from flowgrpo.config import SamplingConfig
from storage import blobs, checkpoints, groups
from storage.engine import Database, open_database
from storage.models import Checkpoint
from tests.storage.ready import ready
from tests.ui.conftest import png
from tests.ui.serving import web
from ui import security
from ui.server import create_app, pages
from ui.services import Services

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {
    "generate_group",
    "get_group",
    "next_task",
    "rate",
    "start_run",
    "get_run",
    "stop_run",
    "list_checkpoints",
    "compare",
    "start_blind_test",
    "next_pair",
    "vote_pair",
    "undo_pair",
    "blind_results",
    "request_calibration",
    "request_agreement",
    "request_leaderboard",
    "get_job",
    "list_fits",
    "apply_fit",
    "withdraw_fit",
    "request_head",
    "learn_from_ratings",
    "list_rewards",
    "accept_notice",
    "evaluate",
    "get_evaluation",
}
HEAVY = ("torch", "transformers", "diffusers", "open_clip", "peft")


pytestmark = [  # Gradio leaves event loops of its own unclosed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, TestClient]]:
    """One data folder and one app for all tests of this file: building the pages takes seconds."""
    db = open_database(ready(tmp_path_factory.mktemp("served")))
    checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with TestClient(create_app(db), base_url="http://127.0.0.1") as client:
        yield db, client
    db.close()


@pytest.fixture
def client(served: tuple[Database, TestClient]) -> TestClient:
    return served[1]


def test_the_web_process_never_imports_the_engine(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from storage.engine import open_database; import app\n"
        "from flowgrpo.runs.dispatcher import Dispatcher; from ui.server import create_app\n"
        f"db = open_database(Path({str(tmp_path / 'h')!r})); create_app(db); Dispatcher(db)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_gradio_builds_one_web_app_and_not_one_for_each_page(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    build = gradio.routes.App.create_app

    def counting(demo: object, *args: object, **more: object) -> object:
        made.append(demo)
        return build(demo, *args, **more)

    monkeypatch.setattr(gradio.routes.App, "create_app", counting)
    create_app(db)
    assert len(made) == 1
    assert gradio.blocks.App is gradio.routes.App


@pytest.mark.parametrize("path", ["/", "/rate", "/compare", "/train"])
def test_every_page_answers_and_carries_the_headers(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers


def test_health_and_no_docs(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/monitoring/summary").status_code != 200
    assert client.get("/openapi.json").status_code == 404


def test_only_the_names_of_the_contract_are_public(services: Services, base: Checkpoint) -> None:
    demo = pages(services)
    public = {fn.api_name for fn in demo.fns.values() if fn.api_visibility == "public"}
    assert public == PUBLIC
    assert {fn.api_visibility for fn in demo.fns.values()} == {"public", "private"}
    for fn in demo.fns.values():
        if fn.api_name in PUBLIC:
            assert fn.fn is not None and len(fn.fn.__doc__ or "") > 40


def test_an_image_is_served_by_the_id_of_its_row(served: tuple[Database, TestClient]) -> None:
    db, client = served
    (base,) = checkpoints.list_checkpoints(db)
    config = SamplingConfig().model_dump()
    group = groups.request_group(
        db, prompt="p", checkpoint_id=base.id, config=config, seeds=[1], worker_id="w"
    )
    sha = blobs.put_png(db.home, png(3))
    image = groups.add_image(db, group_id=group.id, index=0, seed=1, sha256=sha, width=8, height=8)
    answer = client.get(f"/media/{image.id}.png")
    assert answer.status_code == 200
    assert answer.content.startswith(b"\x89PNG")
    assert "immutable" in answer.headers["cache-control"]
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name", ["nobody", "../app.db", "..%2f..%2fapp.db", "0" * 36, "%00", "a/b", "'; DROP TABLE image; --"]
)
def test_anything_else_is_no_image(client: TestClient, name: str) -> None:
    answer = client.get(f"/media/{name}.png")
    assert answer.status_code == 404
    assert b"SQLite" not in answer.content


@pytest.mark.parametrize("name", ["app.db", "runs", "blobs"])
def test_gradio_does_not_serve_the_data_folder(served: tuple[Database, TestClient], name: str) -> None:
    db, client = served
    assert client.get(f"/gradio_api/file={db.home / name}").status_code in (403, 404)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:7860", "localhost", "LocalHost:80", "127.0.0.2:1", "[::1]:7860"]
)
def test_every_address_that_may_be_listened_on_is_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]",
        "evil.example@127.0.0.1",
        "127.0.0.1, evil.example",
        "",
    ],
)
def test_another_host_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:1", "null", "https://127.0.0.1"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_origin_is_refused(client: TestClient, origin: str, method: str) -> None:
    answer = client.request(method, "/gradio_api/queue/join", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "own pages" in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_cross_site_post_without_origin_is_refused(client: TestClient) -> None:
    assert client.post("/gradio_api/queue/join", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_a_body_of_two_megabytes_is_refused(client: TestClient) -> None:
    answer = client.post("/gradio_api/queue/join", content=b"x" * 2_000_000)
    assert answer.status_code == 413
    assert "1,000,000 bytes" in answer.text


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "example.com", ""])
def test_an_address_that_others_can_reach_needs_to_be_known(host: str) -> None:
    with pytest.raises(ValueError, match="--public-url"):
        security.check_host(host)
    assert security.check_host(host, "https://studio.example.org:8443/") == host


@pytest.mark.parametrize(
    "url", ["studio.example.org", "ftp://x", "https://", "https://x/path", "https://[", "http://x:99999"]
)
def test_a_public_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected an address such as"):
        security.check_host("0.0.0.0", url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_needs_no_login(host: str) -> None:
    assert security.check_host(host) == host


def test_a_body_of_a_length_that_is_not_said_is_refused_before_it_is_read(db: Database) -> None:
    with web(db) as url, socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 30) as line:
        head = "POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        line.sendall(head.encode())
        assert line.recv(4_096).startswith(b"HTTP/1.1 411 ")  # and nothing of the body was sent
