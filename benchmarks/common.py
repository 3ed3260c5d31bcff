"""What the benchmarks share: the machine they ran on, a table, a JSON file, a studio to measure.

    python -m benchmarks.speed     (or memory, rating, web)

Each prints a table against the budgets of `docs/benchmarks.md` and writes `build/bench/<name>.json`.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path("build/bench")
ROOT = Path(__file__).resolve().parents[1]
START_LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Line:
    """One measured thing; `budget` is what it may be at most, unless `at_least`."""

    what: str
    value: float
    unit: str
    budget: float | None = None
    at_least: bool = False

    @property
    def is_kept(self) -> bool | None:
        if self.budget is None:
            return None
        return self.value >= self.budget if self.at_least else self.value <= self.budget


def in_turns(what: str, ours: Callable[[], object], bare: Callable[[], object], repeats: int) -> list[Line]:
    """Ours against the bare diffusers pipeline on the same work: medians, and the median ratio of pairs.

    They take turns after a warm-up, so that a busy machine is unfair to both alike.
    """
    taken = turns({"ours": ours, "bare": bare}, repeats)
    ratio = statistics.median(ratios(taken["ours"], taken["bare"]))
    return [
        Line(what, statistics.median(taken["ours"]), "s"),
        Line("the same by the bare diffusers pipeline", statistics.median(taken["bare"]), "s"),
        Line("ratio, ours to the pipeline", ratio, "", 1.05),
    ]


def turns(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Name to the seconds of each turn; a turn has each work once, after a warm-up of all."""
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(seconds_of(work))
    return taken


def ratios(one: list[float], other: list[float]) -> list[float]:
    """Of the same turns."""
    return [a / b for a, b in zip(one, other, strict=True)]


def seconds_of(work: Callable[[], object]) -> float:
    """What one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def publish(name: str, lines: list[Line]) -> None:
    """Prints the table and writes the JSON."""
    table = Table("what", "measured", "budget", title=f"{name} on {machine()['processor']}")
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        sign = "at least" if line.at_least else "at most"
        budget = "" if line.budget is None else f"{sign} {line.budget:g} {line.unit}"
        colour = {None: "default", True: "green", False: "red"}[line.is_kept]
        table.add_row(line.what, f"[{colour}]{line.value:.4g} {line.unit}[/]", budget)
    Console(width=110).print(table)
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows = [asdict(line) | {"kept": line.is_kept} for line in lines]
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), "lines": rows}, indent=1) + "\n")


def machine() -> dict[str, str | int | float]:
    return {
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": version("torch"),
        "diffusers": version("diffusers"),
    }


@dataclass(frozen=True)
class Studio:
    """A served studio: its address, its process, and the seconds until its page could be used."""

    url: str
    process: psutil.Process
    seconds: float

    def children(self, module: str) -> list[psutil.Process]:
        """Processes under it that run a module of ours."""
        return [p for p in self.process.children(recursive=True) if module in _command_line(p)]


@contextmanager
def studio(home: Path) -> Iterator[Studio]:
    """`python app.py serve` in a data folder, on a free port, until the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "serve", "--home", str(home), "--port", str(port)]
    began = time.monotonic()
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_usable(url, server)
        yield Studio(url, psutil.Process(server.pid), time.monotonic() - began)
    finally:
        server.terminate()
        server.communicate(timeout=60)


def _wait_until_usable(url: str, server: subprocess.Popen[bytes]) -> None:
    """Returns when the page and the description of its components are both served."""
    end = time.monotonic() + START_LIMIT_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit(f"the studio did not start: {server.communicate()[1].decode()[-2000:]}")
        if _serves(f"{url}/"):
            return
        time.sleep(0.02)
    sys.exit(f"the studio's page did not come within {START_LIMIT_SECONDS:.0f} s")


def _serves(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status == 200 and len(answer.read()) > 1000
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _command_line(process: psutil.Process) -> str:
    """What a process was started with; nothing where it ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one of these
        return ""
