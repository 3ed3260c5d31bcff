"""Whether what runs in this container is well: exit code 0 or 1, and a line that says why.

python -m flowgrpo.runs.healthcheck             the studio: what /healthz answers
python -m flowgrpo.runs.healthcheck worker      a host of `app.py worker`: its dispatcher's last sign of life
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from flowgrpo.runs.layout import dispatcher_lock

SILENT_SECONDS: Final = 30.0
"""A dispatcher gives a sign of life every half second, and while the database is away too."""
ANSWER_SECONDS: Final = 8.0
"""How long the web may take; the container's own limit is a little longer, so that its reason is kept."""
Verdict = tuple[bool, str]


def of_web(port: int) -> Verdict:
    """Whether the studio on this port of loopback says that it is well, and its words."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the container has
    try:
        with direct.open(f"http://127.0.0.1:{port}/healthz", timeout=ANSWER_SECONDS) as answer:
            return True, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return False, error.read().decode(errors="replace")
    except OSError as error:
        return False, f"nothing answers on port {port}: {error}"


def of_worker(home: Path, now: float) -> Verdict:
    """Whether this host's dispatcher gave a sign of life lately, on a data folder that hosts share.

    Args:
        now: seconds since the epoch, as `time.time` counts them.
    """
    lock = dispatcher_lock(home)
    try:
        age = now - lock.stat().st_mtime
    except OSError as error:
        return False, f"no worker of this host has begun: {error}"
    said = json.dumps({"status": "ok" if age <= SILENT_SECONDS else "failing", "age_seconds": round(age, 1)})
    return age <= SILENT_SECONDS, said


def main(arguments: list[str]) -> int:
    """Looks once, and says what it found."""
    if arguments == ["worker"]:
        is_well, said = of_worker(Path(os.environ.get("FLOWGRPO_HOME", "data")), time.time())
    elif not arguments:
        is_well, said = of_web(int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    else:
        is_well, said = False, f"expected nothing or the word worker, got {' '.join(arguments)}"
    sys.stdout.write(said + "\n")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
