"""What goes over the pipes arrives as it left, or not at all."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flowgrpo.rewards.base import Abstained, ScoreBatch, ScoreResult
from flowgrpo.rewards.wire import (
    BrokenFrameError,
    Pipes,
    batch_message,
    read_batch,
    read_result,
    result_message,
)


@pytest.fixture
def loop() -> Iterator[Pipes]:
    """A pipe that is read by who writes to it."""
    source, sink = os.pipe()
    yield Pipes(source, sink)
    os.close(source)
    os.close(sink)


def test_a_message_larger_than_a_pipe_arrives_whole(loop: Pipes) -> None:
    data = bytes(range(256)) * 10_000
    sender = threading.Thread(target=loop.send, args=({"op": "score", "words": "ä\n"}, data))
    sender.start()
    assert loop.receive() == ({"op": "score", "words": "ä\n"}, data)
    sender.join()


@pytest.mark.parametrize("direction", ["read", "write"])
def test_a_deadline_holds_whoever_does_not_answer(loop: Pipes, direction: str) -> None:
    os.set_blocking(loop.sink, False)
    started = time.monotonic()
    loop.deadline = started + 0.2
    with pytest.raises(TimeoutError):
        loop.receive() if direction == "read" else loop.send({}, bytes(10_000_000))
    assert 0.15 < time.monotonic() - started < 2


@pytest.mark.parametrize(
    "sent",
    [
        b"G" * 32,
        b"FGRW" + b"\xff" * 12,
        b"FGRW\0\0\0\2" + bytes(8) + b"[]",
        b"FGRW\0\0\0\2" + bytes(8) + b"{'",
    ],
)
def test_what_is_no_message_is_refused(loop: Pipes, sent: bytes) -> None:
    os.write(loop.sink, sent)
    with pytest.raises(BrokenFrameError):
        loop.receive()


def test_a_number_that_json_does_not_know_is_refused_by_the_sender(loop: Pipes) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        loop.send({"value": float("nan")})


@given(st.lists(st.floats(width=32), min_size=1, max_size=9))
def test_values_arrive_to_the_last_bit(values: list[float]) -> None:
    column = torch.tensor(values, dtype=torch.float32)
    reasons = tuple(Abstained("a") if i % 2 else None for i in range(len(values)))
    sent = ScoreResult(column, reasons, {"half": column / 2, "odd": torch.ones(11)}, "slow")
    got = read_result(*result_message(sent))
    assert torch.equal(got.values.view(torch.int32), column.view(torch.int32))
    assert got.reasons == reasons
    assert [type(reason) for reason in got.reasons] == [type(reason) for reason in reasons]
    assert list(got.details) == ["half"]
    assert got.warning == "slow"


def test_a_batch_arrives_with_its_references_wherever_it_lay_in_memory(
    renders: tuple[Tensor, list[str]],
) -> None:
    images = renders[0][:3].contiguous(memory_format=torch.channels_last)
    sent = ScoreBatch(images, ["a", "ü", ""], [0, 0, 7], references=images.flip(3))
    got = read_batch(*batch_message(sent))
    assert torch.equal(got.images, images)
    assert got.references is not None
    assert torch.equal(got.references, images.flip(3))
    assert (got.prompts, got.groups) == (["a", "ü", ""], [0, 0, 7])
    assert read_batch(*batch_message(ScoreBatch(images, ["a"] * 3, [0] * 3))).references is None
