"""Seconds from `python app.py` to a page that can be used, cold and warm, and what an idle page costs."""

from __future__ import annotations

import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.common import Line, publish, studio


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with studio(home) as first:
            cold = first.seconds
        starts = []
        for _ in range(3):
            with studio(home) as server:
                starts.append(server.seconds)
                pages = sorted(_page(server.url) for _ in range(20))
                maps = Path(f"/proc/{server.process.pid}/maps")
                tensors = maps.exists() and "libtorch" in maps.read_text()
    publish(
        "web",
        [
            Line("first start in a new data folder", cold, "s"),
            Line("start to a usable page", statistics.median(starts), "s", 8.0),
            Line("the page again, median of 20", pages[10] * 1000, "ms"),
            Line("torch in the web process", float(tensors), "", 0.0),
        ],
    )


def _page(url: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(f"{url}/", timeout=20) as answer:
        answer.read()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
