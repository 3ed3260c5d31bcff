"""A side as its parent sees it: a process that is asked one thing at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.common import ROOT
from benchmarks.peers.side import Work

OURS, TRL = "benchmarks.peers.our_side", "benchmarks.peers.trl_side"
Answer = dict[str, Any]


class Child:
    """A side that has loaded its pipeline.

    Args:
        log: where what it says besides its answers goes.
    """

    def __init__(self, python: Path | str, module: str, work: Work, log: Path) -> None:
        self._log = log.open("w")
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [str(python), "-m", module, json.dumps(asdict(work))],
            cwd=ROOT, env=os.environ | offline, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip
        self.started = self._answer()

    def ask(self, word: str) -> Answer:
        """The answer to one of: update, held_out, memory, forget."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Answer:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args!r} ended: {Path(self._log.name).read_text()[-3000:]}")
        answer: Answer = json.loads(line)
        return answer

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self._log.close()
