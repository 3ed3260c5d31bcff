"""What Prometheus reads: rows counted every few seconds at most, and how long requests take, by route."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storage import copies, counts
from storage.backup_trouble import trouble_of
from storage.counts import Counts
from storage.engine import Database
from storage.sqlite_only import is_file
from storage.types import utc_now
from ui.logs import request_id

CACHE_SECONDS: Final = 5.0
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OTHER: Final = "other"
"""Route of a request that none of ours and none of Gradio's took."""


class StudioCollector(Collector):
    """Counts of the rows, the disk and the backups, as they were a few seconds ago at most."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._counted: Counts | None = None
        self._until = 0.0

    def describe(self) -> list[Metric]:
        """Nothing: Prometheus would count all rows to learn names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        found = self._count()
        yield _by_label("flowgrpo_groups", "Groups of images, by state.", "state", found.groups)
        yield _by_label("flowgrpo_runs", "Runs, by state.", "state", found.runs)
        yield _by_label("flowgrpo_jobs", "Jobs of the engine, by state.", "state", found.jobs)
        votes = CounterMetricFamily("flowgrpo_votes", "Acts of judging ever kept, by kind.", labels=["kind"])
        votes.add_metric(["rating"], found.ratings)
        votes.add_metric(["blind"], found.blind_votes)
        yield votes
        yield _one("flowgrpo_queue_length", "Groups, jobs and runs that wait.", found.queue_length)
        yield _by_label(
            "flowgrpo_worker_beat_age_seconds", "Since a worker's last sign of life.", "worker",
            found.worker_ages,
        )  # fmt: skip
        free = shutil.disk_usage(self.db.home).free
        yield _one("flowgrpo_disk_free_bytes", "Free on the disk of the data folder.", free)
        if is_file(self.db):
            yield from _backups(self.db.home)

    def _count(self) -> Counts:
        if self._counted is None or time.monotonic() > self._until:
            self._counted = counts.count(self.db)
            self._until = time.monotonic() + CACHE_SECONDS
        return self._counted


def _backups(home: Path) -> Iterator[Metric]:
    has_failed = trouble_of(home) is not None
    yield _one("flowgrpo_backup_failed", "1 where the last backup failed, else 0.", has_failed)
    if made := copies.automatic_of(home):
        age = max(0.0, (utc_now() - made[0].at).total_seconds())
        yield _one("flowgrpo_backup_age_seconds", "Since the newest backup.", age)


def _one(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _by_label(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    made = GaugeMetricFamily(name, words, labels=[label])
    for key, value in sorted(values.items()):
        made.add_metric([key], value)
    return made


def registry_of(db: Database) -> tuple[CollectorRegistry, Histogram]:
    """A registry of this app alone, and its histogram of requests."""
    registry = CollectorRegistry()
    registry.register(StudioCollector(db))
    ProcessCollector(registry=registry)
    latency = Histogram(
        "flowgrpo_request_seconds", "From a request to the first byte of its answer, by route.",
        labelnames=("method", "route", "status"), buckets=BUCKETS, registry=registry,
    )  # fmt: skip
    return registry, latency


class Measured:
    """Times every request and names it: plain ASGI, so that event streams pass untouched."""

    def __init__(self, app: ASGIApp, latency: Histogram) -> None:
        self.app = app
        self.latency = latency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, under an id that its lines of the log carry and its answer says."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        with request_id() as given:

            async def send_measured(message: Message) -> None:
                if message["type"] == "http.response.start":
                    seconds = time.perf_counter() - begun
                    labels = _method(scope), route_of(scope), str(message["status"])
                    self.latency.labels(*labels).observe(seconds)
                    message.setdefault("headers", [])
                    message["headers"] = [*message["headers"], (b"x-request-id", given.encode())]
                await send(message)

            await self.app(scope, receive, send_measured)


def _method(scope: Scope) -> str:
    """One of few: a label for each word that a stranger sends would fill the memory."""
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "OTHER"


def route_of(scope: Scope) -> str:
    """The template of the route that took a request, never the path that was asked for."""
    return str(getattr(scope.get("route"), "path", None) or OTHER)
