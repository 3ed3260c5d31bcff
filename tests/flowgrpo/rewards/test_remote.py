"""A reward over HTTP, from the reference server and from servers that fail in every way they can."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgrpo.rewards.base import Abstained, ScoreBatch
from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.rewards.remote import Asking, RemoteReward
from flowgrpo.rewards.stack import RewardStack

REFERENCE = Path(__file__).parents[3] / "docs" / "remote_reward" / "server.py"
QUICK = Asking(timeout=0.5, retries=2, pause=0.01, batch_size=2, concurrency=2)
Answer = Callable[[dict[str, Any]], tuple[int, Any]]


def ones(question: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"version": "1", "values": [1.0] * len(question["images"])}


class Scripted:
    """A server on this machine that answers `/score` as a test says."""

    def __init__(self) -> None:
        self.spec: Any = {"version": "1", "title": "scripted"}
        self.answer: Answer = ones
        self.asked: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        lock, script = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.say(200, script.spec)

            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    script.asked.append(question)
                    script.at_once += 1
                    script.most_at_once = max(script.most_at_once, script.at_once)
                try:
                    self.say(*script.answer(question))
                finally:
                    script.at_once -= 1

            def say(self, status: int, said: Any) -> None:
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A client that no longer waits is no error here."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def end(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.end()


@pytest.fixture
def batch(renders: tuple[Tensor, list[str]]) -> ScoreBatch:
    return ScoreBatch(renders[0][:5], renders[1][:5], [0] * 5)


def reasons(reward: RemoteReward, batch: ScoreBatch) -> list[str | None]:
    result = RewardStack({"remote": reward}).score(batch)["remote"]
    assert [reason is None for reason in result.reasons] == result.values.isfinite().tolist()
    return list(result.reasons)


@pytest.fixture(scope="module")
def reference() -> Iterator[str]:
    command = [sys.executable, str(REFERENCE), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
        process.kill()


def test_the_reference_server_scores_what_it_says(reference: str, batch: ScoreBatch) -> None:
    reward = RemoteReward(reference)
    assert reward.spec.title == "contrast (example server)"
    assert (reward.spec.name, reward.spec.version, reward.spec.kind) == ("remote", "1", "pointwise")
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int64)[:, None, None]  # Pillow's grey
    grey = ((batch.images.long() * weights).sum(dim=1) + 0x8000 >> 16).double()
    expected = grey.flatten(1).std(dim=1, correction=0) / 127.5
    result = reward.score(batch)
    torch.testing.assert_close(result.values.double(), expected, atol=1e-6, rtol=0)
    pieces = RemoteReward(reference, Asking(batch_size=1, concurrency=3)).score(batch)
    assert torch.equal(pieces.values, result.values)


def test_images_go_in_batches_and_no_more_at_once_than_was_said(server: Scripted, batch: ScoreBatch) -> None:
    def slow(question: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(0.1)
        return ones(question)

    server.answer = slow
    assert RemoteReward(server.url, QUICK).score(batch).values.tolist() == [1.0] * 5
    assert sorted(len(question["images"]) for question in server.asked) == [1, 2, 2]
    assert server.most_at_once == 2
    sent = {prompt for question in server.asked for prompt in question["prompts"]}
    assert sent == set(batch.prompts)


def test_values_keep_the_order_of_their_images_whichever_request_is_first(
    server: Scripted, batch: ScoreBatch
) -> None:
    order = {prompt: float(index) for index, prompt in enumerate(batch.prompts)}

    def late(question: dict[str, Any]) -> tuple[int, Any]:
        values = [order[prompt] for prompt in question["prompts"]]
        time.sleep(0.2 - 0.04 * values[0])
        return 200, {"version": "1", "values": values}

    server.answer = late
    assert RemoteReward(server.url, QUICK).score(batch).values.tolist() == [0, 1, 2, 3, 4]


def test_a_failure_that_passes_is_survived(server: Scripted, batch: ScoreBatch) -> None:
    answers = iter([(503, b"starting"), (500, b"")])
    server.answer = lambda question: next(answers, None) or ones(question)
    one = ScoreBatch(batch.images[:1], batch.prompts[:1], [0])
    assert reasons(RemoteReward(server.url, QUICK), one) == [None]
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((500, b"out of\nmemory"), "the remote reward got status 500 from {url}: out of memory"),
        ((404, b""), "the remote reward got status 404 from {url}"),
        ((302, b""), "the remote reward got status 302 from {url}"),
        ((200, b"<html>"), "the remote reward got no JSON from {url}: Expecting value"),
        ((200, [1.0]), "the remote reward got no JSON object from {url}"),
        ((200, {"version": "1", "values": [0.0] * 3}), "the remote reward got 3 values for 2 images"),
        ((200, {"version": "1"}), "the remote reward got no list of values for 2 images"),
        ((200, {"version": "2", "values": [0.0] * 2}), "the remote reward is version 2 now and was 1"),
        ((200, {"values": [0.0] * 2}), "the remote reward is version None now and was 1"),
    ],
)
def test_an_answer_that_cannot_be_used_is_a_reason(
    server: Scripted, batch: ScoreBatch, answer: tuple[int, Any], reason: str
) -> None:
    server.answer = lambda _: answer
    two = ScoreBatch(batch.images[:2], batch.prompts[:2], [0, 0])
    for said in reasons(RemoteReward(server.url, QUICK), two):
        assert str(said).startswith(reason.format(url=server.url))


def test_each_image_has_its_own_reason(server: Scripted, batch: ScoreBatch) -> None:
    values: list[Any] = [0.5, "high", None, None, True]
    said = {"version": "1", "values": values, "reasons": [None, None, "no face"], "abstained": [0, 0, True]}
    server.answer = lambda _: (200, said)
    reward = RemoteReward(server.url, Asking(batch_size=5))
    found = reasons(reward, batch)
    assert found == [
        None,
        "the remote reward returned 'high', which is no number",
        "no face",
        "the remote reward gave neither a value nor a reason",
        "the remote reward returned 'True', which is no number",
    ]
    assert isinstance(found[2], Abstained)
    said["values"] = [float("nan"), float("inf"), 10**400, 1, -2.5]
    assert [reason is None for reason in reasons(reward, batch)] == [False, False, False, True, True]


def test_only_the_images_of_a_failed_request_have_no_score(server: Scripted, batch: ScoreBatch) -> None:
    bad = batch.prompts[2]
    server.answer = lambda question: (400, b"") if bad in question["prompts"] else ones(question)
    assert [reason is None for reason in reasons(RemoteReward(server.url, QUICK), batch)] == [
        True, True, False, False, True,
    ]  # fmt: skip


def test_a_server_that_hangs_costs_its_time_once(server: Scripted, batch: ScoreBatch) -> None:
    over = threading.Event()

    def hang(_: dict[str, Any]) -> tuple[int, Any]:
        over.wait(20)
        return 500, b""

    server.answer = hang
    reward = RemoteReward(server.url, Asking(timeout=0.3, retries=1, pause=0.01, batch_size=1, concurrency=1))
    started = time.monotonic()
    found = reasons(reward, batch)
    assert time.monotonic() - started < 3
    assert found[0] == f"the remote reward got no answer from {server.url} within 0.3 s"
    assert set(found[1:]) == {f"the remote reward was not asked again: {server.url} failed before"}
    over.set()


def test_nobody_waits_for_a_server_that_hangs_once_the_reward_is_interrupted(
    server: Scripted, batch: ScoreBatch
) -> None:
    over = threading.Event()

    def hang(_: dict[str, Any]) -> tuple[int, Any]:
        stack.interrupt()
        over.wait(20)
        return 500, b""

    server.answer = hang
    stack = RewardStack(
        {"remote": RemoteReward(server.url, Asking(timeout=30.0, batch_size=1, concurrency=1))}
    )
    started = time.monotonic()
    result = stack.score(batch)["remote"]
    assert time.monotonic() - started < 10
    assert set(result.reasons) == {"the remote reward was not waited for: the run stops"}
    assert stack.is_interrupted
    over.set()


def test_a_server_that_is_not_there_is_said_in_words(batch: ScoreBatch) -> None:
    server = Scripted()
    reward = RemoteReward(server.url, QUICK)
    server.end()
    assert "cannot reach" in str(reasons(reward, batch)[0]) or "lost the connection" in str(
        reasons(reward, batch)[0]
    )
    with pytest.raises(FailedRewardError, match=r"the remote reward cannot reach http://127.*refused"):
        RemoteReward(server.url, QUICK)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({}, "version: Field required"),
        ({"version": 1}, "version: Input should be a valid string"),
        ({"version": " "}, "expected a version"),
        ({"version": "1", "kind": "groupwise"}, "a kind of pointwise, gate, monitor"),
        ({"version": "1", "low": 1.0}, "low < high"),
        ({"version": "1", "kind": "gate"}, "a gate, and only it, has a threshold"),
        ([], "got no JSON object"),
    ],
)
def test_a_spec_that_cannot_be_used_is_a_reason(server: Scripted, spec: Any, sentence: str) -> None:
    server.spec = spec
    with pytest.raises(FailedRewardError, match=sentence):
        RemoteReward(server.url, QUICK)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host",
        "127.0.0.1:80",
        "http://",
        "http://a:b@host",
        "http://host/?x=1",
        "",
    ],
)
def test_only_plain_web_addresses_are_asked(url: str) -> None:
    with pytest.raises(ValueError, match="expected an address such as"):
        RemoteReward(url)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "0.0.0.0", "[::]", "224.0.0.1", "[::ffff:169.254.169.254]"]
)
def test_no_service_of_the_machine_itself_is_asked(host: str) -> None:
    with pytest.raises(FailedRewardError, match="is an address of no server of rewards"):
        RemoteReward(f"http://{host}:8765", QUICK)
