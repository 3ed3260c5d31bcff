"""Work that can wait steps back, and only its own."""

from __future__ import annotations

import os
import subprocess
import sys

from storage.courtesy import BACKGROUND, stepping_back

SAY = """
import os
from contextlib import suppress
from pathlib import Path
from storage.courtesy import step_back
group = Path("/proc/self/autogroup")
{act}
print(os.getpriority(os.PRIO_PROCESS, 0))
with suppress(OSError):
    print(*group.read_text().split()[-1:])
"""
"""The kernel may have no such file, and says nothing in it of a process that is in no group."""
STEP_BACK = "step_back(15)"
BY_HAND = "os.setpriority(os.PRIO_PROCESS, 0, 15)\nwith suppress(OSError):\n    group.write_text('15')"


def said(act: str, *, own_session: bool) -> list[str]:
    code = SAY.format(act=act)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=own_session,
    )
    return done.stdout.split()


def test_what_leads_a_session_makes_all_of_it_nicer_and_what_shares_one_does_not() -> None:
    assert said(STEP_BACK, own_session=True)[0] == said(STEP_BACK, own_session=False)[0] == "15"
    assert said(STEP_BACK, own_session=True) == said(BY_HAND, own_session=True)
    assert said(STEP_BACK, own_session=False) == said(
        "os.setpriority(os.PRIO_PROCESS, 0, 15)", own_session=False
    )


def test_it_steps_back_for_a_while_and_no_further_than_it_stands() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with stepping_back(0):
        assert os.getpriority(os.PRIO_PROCESS, 0) == before
    with stepping_back():
        assert os.getpriority(os.PRIO_PROCESS, 0) == max(before, BACKGROUND)
    if os.geteuid() == 0:
        assert os.getpriority(os.PRIO_PROCESS, 0) == before
