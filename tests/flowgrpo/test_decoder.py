"""Strangers' images are decoded elsewhere: what becomes of that process costs one image."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from flowgrpo import decoder, pixel_server
from flowgrpo.decoder import Decoder, DecoderError, Decoders
from ui import decoding
from ui.decoding import write_image
from ui.forms import Refused


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoders]:
    made = Decoders()
    monkeypatch.setattr(decoding, "decoders", made)
    yield made
    made.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "sent", "PNG")
    return tmp_path / "sent"


def asked(source: Path, op: str = "size") -> dict[str, object]:
    return {"op": op, "source": str(source), "target": str(source) + ".png", "formats": ["PNG"]}


def test_a_decoder_that_ends_costs_one_image_and_the_next_has_another(fresh: Decoders, source: Path) -> None:
    with fresh.lent() as first:
        assert first.ask(asked(source)) == {"size": [40, 30]}
        first.process.kill()
        with pytest.raises(DecoderError, match="ended the program"):
            first.ask(asked(source))
    assert not psutil.pid_exists(first.process.pid)
    with fresh.lent() as second:
        assert second is not first
        assert second.ask(asked(source)) == {"size": [40, 30]}


def test_a_decoder_that_hangs_is_ended_and_its_image_refused_in_a_sentence(
    fresh: Decoders, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "SECONDS", 0.2)
    with fresh.lent() as one:
        psutil.Process(one.process.pid).suspend()
    with pytest.raises(Refused, match=r"The image a\.png takes more than 0\.2 s\. Leave it out"):
        write_image(source, source.with_name("out.png"), "a.png")
    assert source.exists()
    assert not source.with_name("out.png").exists()


def test_an_image_that_takes_too_much_memory_is_refused_and_the_decoder_lives_on(
    fresh: Decoders, source: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (4096, 4096)).save(tmp_path / "large", "PNG")
    with fresh.lent() as one:
        one.ask(asked(source, "png"))
        process = psutil.Process(one.process.pid)
        process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + 2**24, pixel_server.MEMORY))
        said = one.ask(asked(tmp_path / "large", "png"))
        assert "takes more memory than is kept for one image" in str(said["reason"])
        assert one.ask(asked(source, "png")) == {}


def test_a_decoder_has_a_limit_of_memory_and_learns_no_secret(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://studio:secret@db/studio")
    one = Decoder()
    try:
        one.ask(asked(source))
        process = psutil.Process(one.process.pid)
        assert process.rlimit(psutil.RLIMIT_AS) == (pixel_server.MEMORY, pixel_server.MEMORY)
        assert "secret" not in str(process.environ())
    finally:
        one.end()


def test_many_images_at_once_are_served_by_few_processes(source: Path) -> None:
    some, lock, now, most = Decoders(2), threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal now, most
        with some.lent() as one:
            with lock:
                now += 1
                most = max(most, now)
            assert one.ask(asked(source)) == {"size": [40, 30]}
            time.sleep(0.01)
            with lock:
                now -= 1

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(24)))
    assert most == 2
    some.close()
