from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowgrpo.runs.environment import needed
from flowgrpo.runs.log_writer import LogWriter, drain, open_log
from storage.log_files import end_of, files_of
from storage.masking import Masker
from tests.runs.helpers import ROOT, wait_for

HERE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


def writer(path: Path, max_bytes: int = 1000, **environment: str) -> LogWriter:
    return LogWriter(path, max_bytes, Masker(environment))


def test_lines_are_masked_even_where_a_secret_came_in_two_pieces(tmp_path: Path) -> None:
    log = writer(tmp_path / "log.txt", A_TOKEN="secret-value")
    for piece in (b"first\nhere is secret-", b"value, and ", b"more\nhalf a l"):
        log.take(piece)
    assert (tmp_path / "log.txt").read_text() == "first\nhere is ***, and more\n"
    log.flush()
    assert (tmp_path / "log.txt").read_text().endswith("half a l")


def test_a_full_file_is_put_aside_and_no_line_is_cut(tmp_path: Path) -> None:
    log = writer(tmp_path / "log.txt", 100)
    lines = [f"line {number:04d}\n" for number in range(25)]
    for line in lines:
        log.take(line.encode())
    assert len(files_of(tmp_path / "log.txt")) == 3
    assert end_of(tmp_path / "log.txt", 10_000).decode() == "".join(lines)


def test_bytes_that_are_no_text_pass_through(tmp_path: Path) -> None:
    log = writer(tmp_path / "log.txt")
    log.take(b"\xff\xfe\x00 odd\n")
    assert (tmp_path / "log.txt").read_bytes() == b"\xff\xfe\x00 odd\n"


def test_what_finds_no_room_is_counted_and_the_writer_goes_on(tmp_path: Path) -> None:
    log = writer(tmp_path / "gone" / "log.txt")
    log.take(b"lost\n")
    (tmp_path / "gone").mkdir()
    log.take(b"kept\n")
    expected = "[5 bytes of the log could not be written]\nkept\n"
    assert (tmp_path / "gone" / "log.txt").read_text() == expected


def test_a_writer_outlives_who_started_it_and_ends_with_the_last_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    said = 'import sys, time\nfor i in range(40): print("line", i, flush=True); time.sleep(0.02)'
    starter = (
        "import os, subprocess, sys\nfrom pathlib import Path\n"
        "from flowgrpo.runs.log_writer import open_log\n"
        f"writer = open_log(Path({str(path)!r}), dict(os.environ))\n"
        f"subprocess.Popen([sys.executable, '-S', '-c', {said!r}], stdout=writer.stdin)\n"
        "os.kill(os.getpid(), 9)"
    )
    starting = subprocess.run([sys.executable, "-c", starter], env=HERE, check=False)
    assert starting.returncode == -9
    wait_for(lambda: path.exists() and "line 39" in path.read_text(), seconds=20.0, what="the last line")
    assert path.read_text() == "".join(f"line {number}\n" for number in range(40))


def test_half_a_line_is_written_after_a_silence_and_the_rest_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    log = open_log(path, HERE)
    assert log.stdin is not None
    log.stdin.write(b"thinking ...")
    log.stdin.flush()
    wait_for(lambda: path.exists() and path.read_text() == "thinking ...", seconds=20.0, what="half a line")
    log.stdin.write(b" done")
    drain(log)
    assert path.read_text() == "thinking ... done"
    assert log.returncode == 0


def test_a_writer_whose_pipe_is_held_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log.txt", HERE)
    assert log.stdin is not None
    holder = subprocess.Popen(["sleep", "60"], stdout=log.stdin)
    started = time.monotonic()
    drain(log, seconds=0.3)
    assert time.monotonic() - started < 10
    holder.kill()
    holder.wait()


def test_children_have_what_they_need_of_the_environment_and_no_secret() -> None:
    here = {
        "PATH": "/bin", "HF_HOME": "/models", "CUDA_VISIBLE_DEVICES": "1", "NCCL_DEBUG": "INFO",
        "DATABASE_URL": "postgresql://u:p@h/d", "FLOWGRPO_LAUNCH": "accelerate launch",
        "HF_TOKEN": "hf_secret", "FLOWGRPO_API_TOKEN": "secret", "AWS_SECRET_ACCESS_KEY": "secret",
        "WANDB_API_KEY": "wanted by a plug-in", "SMTP_PASSWORD": "secret", "EDITOR": "vi",
        "LC_ALL": "C", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    withheld = {
        "HF_TOKEN",
        "FLOWGRPO_API_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "WANDB_API_KEY",
        "SMTP_PASSWORD",
        "EDITOR",
    }
    assert here.keys() - needed(here).keys() == withheld
    assert "HF_TOKEN" in needed(here, fetches=True)
    assert "WANDB_API_KEY" in needed(here | {"FLOWGRPO_PASS": "EDITOR, WANDB_API_KEY"})


@pytest.mark.parametrize("name", ["FLOWGRPO_HOME", "PYTHONPATH", "OMP_NUM_THREADS", "LD_LIBRARY_PATH"])
def test_what_runs_need_reaches_them(name: str) -> None:
    assert needed({name: "x"}) == {name: "x"}
