"""What every test can count on: no network, no data folder of a person, one thread a process."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

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


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can touch a person's data: the default folder is the test's own, and no server is borrowed."""
    monkeypatch.setenv("FLOWGRPO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
