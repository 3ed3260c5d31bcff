"""A device that fell away ends one run, not all that wait: the next ones start once it answers again."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Sequence

from flowgrpo.runs import exits
from storage.attempts import last_ended
from storage.engine import Database

PROBE = (sys.executable, "-m", "flowgrpo.runs.device_probe")
AGAIN_SECONDS = 60.0
_log = logging.getLogger(__name__)


class DeviceWatch:
    """Asked before each start of a run. The probe is a process: this one has no torch, and does not wait.

    Args:
        host: whose runs are looked at.
        probe: a command that ends with 0 where the device computes.
        again_seconds: from one probe that failed to the next.
    """

    def __init__(
        self, db: Database, host: str, probe: Sequence[str] = PROBE, again_seconds: float = AGAIN_SECONDS
    ) -> None:
        self.db, self.host, self.probe, self.again_seconds = db, host, probe, again_seconds
        self._passed: tuple[str, int] | None = None
        self._asking: subprocess.Popen[bytes] | None = None
        self._next = 0.0

    def is_bad(self) -> bool:
        """Whether the last run here lost its device, and the device has not answered since."""
        last = last_ended(self.db, self.host)
        if last is None or last.exit_code != exits.NO_DEVICE:
            return False
        lost = last.run_id, last.attempt
        if lost != self._passed and self._answers():
            _log.info("the device answers again: runs that wait are started")
            self._passed = lost
        return lost != self._passed

    def stop(self) -> None:
        """Ends a probe that is under way: a driver may hang for ever."""
        if self._asking is not None:
            self._asking.kill()
            self._asking.wait()
            self._asking = None

    def _answers(self) -> bool:
        """Whether a probe has just passed; begins one where that is due."""
        now = time.monotonic()
        if self._asking is None:
            if now >= self._next:
                self._next = now + self.again_seconds
                self._asking = subprocess.Popen(
                    self.probe, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            return False
        code = self._asking.poll()
        if code is None and now < self._next:
            return False
        self.stop()
        if code != 0:
            _log.warning("no run is started: the device of the last one does not answer; see nvidia-smi")
        return code == 0
