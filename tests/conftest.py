"""What every test can count on: no network, no data folder of a person, one thread a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import postgres

# Before the first import of torch, transformers or gradio: they read these once.
os.environ.update(
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    GRADIO_ANALYTICS_ENABLED="False",
    TOKENIZERS_PARALLELISM="false",
)

# A deadline is a timing, and the machine may be busy.
hypothesis.settings.register_profile("studio", deadline=None)
hypothesis.settings.load_profile("studio")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--postgres", action="store_true", help="rows are a PostgreSQL server's, not a file's")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips what is about SQLite itself where the rows are a server's; leaves out what needs a server that is
    not there."""
    if not config.getoption("--postgres"):
        there = [item for item in items if item.get_closest_marker("postgres_only")]
        config.hook.pytest_deselected(items=there)
        items[:] = [item for item in items if item not in there]
        return
    for item in items:
        mark = item.get_closest_marker("sqlite_only")
        if mark is not None:
            item.add_marker(pytest.mark.skip(reason=f"only SQLite: {mark.args[0]}"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A server of this test process, quick and unsafe, with a database of the newest schema to copy."""
    with pytest.MonkeyPatch.context() as patch, postgres.running(postgres.FAST) as server:
        patch.setenv("FLOWGRPO_UNSAFE_POSTGRES", "1")
        server.make_template()
        yield server


@pytest.fixture
def _rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With --postgres, every data folder of the test has its rows in one fresh database."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if not request.config.getoption("--postgres"):
        yield
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    monkeypatch.setenv("FLOWGRPO_UNSAFE_POSTGRES", "1")
    with server.database() as url:
        monkeypatch.setenv("DATABASE_URL", url)
        yield


@pytest.fixture(autouse=True)
def _own_home(_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can touch a person's data: the default folder is the test's own, and no server is borrowed."""
    monkeypatch.setenv("FLOWGRPO_HOME", str(tmp_path / "home"))
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
