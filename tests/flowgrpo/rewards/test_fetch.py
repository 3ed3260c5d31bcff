from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flowgrpo.rewards.fetch import HubFile, Mismatch, Options, Pinned, Unavailable, obtain, standing

CONTENT = b"the weights of a head" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Web(ThreadingHTTPServer):
    """A web server whose one file can be other than it should be."""

    daemon_threads = True
    content = CONTENT
    announced = len(CONTENT)
    requests = 0


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(200 if self.path == "/head.pth" else 404)
        self.send_header("Content-Length", str(self.server.announced))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def pinned(web: Web, file: str = "head.pth") -> Pinned:
    return Pinned("the head", f"http://127.0.0.1:{web.server_port}/{file}", SHA256, 3.7, "Apache-2.0")


def options(folder: Path, *, offline: bool = False) -> Options:
    return Options(weights=folder, cache=folder / "cache", offline=offline)


def test_a_file_is_fetched_once_and_then_taken_from_the_cache(web: Web, tmp_path: Path) -> None:
    head = pinned(web)
    assert standing([head], options(tmp_path)) == ("to fetch", "fetched on first use: 3.7 MB")
    paths = {obtain(head, options(tmp_path)) for _ in range(2)}
    assert [path.read_bytes() for path in paths] == [CONTENT]
    assert web.requests == 1
    assert standing([head], options(tmp_path, offline=True)) == ("here", "here")


def test_what_is_not_the_pinned_file_is_refused_and_not_kept(web: Web, tmp_path: Path) -> None:
    web.content = CONTENT[:-1] + b"!"
    with pytest.raises(Mismatch, match="is not the head: its SHA-256 differs"):
        obtain(pinned(web), options(tmp_path))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_transfer_that_breaks_off_leaves_nothing(web: Web, tmp_path: Path) -> None:
    web.content = CONTENT[:100]
    with pytest.raises(LookupError):
        obtain(pinned(web), options(tmp_path))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_changed_in_the_cache_is_not_loaded(web: Web, tmp_path: Path) -> None:
    obtain(pinned(web), options(tmp_path)).write_bytes(b"something else")
    with pytest.raises(Mismatch, match="delete it to fetch it again"):
        obtain(pinned(web), options(tmp_path))


def test_a_server_without_the_file_is_named_with_what_is_missing(web: Web, tmp_path: Path) -> None:
    web.content, web.announced = b"", 0
    with pytest.raises(Unavailable, match=r"needs the head \(3.7 MB, Apache-2.0\), and 127.0.0.1:.* 404"):
        obtain(pinned(web, "gone.pth"), options(tmp_path))


def test_offline_nothing_is_fetched_and_the_sentence_says_what_is_needed(web: Web, tmp_path: Path) -> None:
    where = options(tmp_path, offline=True)
    assert standing([pinned(web)], where) == (
        "unavailable", "unavailable: needs the head (3.7 MB, Apache-2.0)"
    )  # fmt: skip
    with pytest.raises(Unavailable, match="not here, and fetching is switched off"):
        obtain(pinned(web), where)
    assert web.requests == 0


def test_the_environment_switches_fetching_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Options(tmp_path).offline
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not Options(tmp_path).offline


def test_a_file_of_the_hub_that_is_not_in_its_cache_is_unavailable_offline(tmp_path: Path) -> None:
    wanted = HubFile("an encoder", "nobody/nothing", ("model.safetensors",), 1710.0, "MIT")
    assert standing([wanted], options(tmp_path, offline=True))[1].endswith("an encoder (1710 MB, MIT)")
    with pytest.raises(Unavailable, match="nobody/nothing did not give it"):
        obtain(wanted, options(tmp_path))
