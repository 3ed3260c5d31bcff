"""The studio on a machine whose network is off: a namespace that has a loopback and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served import ROOT

INSIDE = """
import socket, sys, time
from pathlib import Path
import httpx
from tests.served import served

try:
    socket.create_connection(("1.1.1.1", 443), timeout=2)
except OSError:
    pass
else:
    sys.exit("the network is on")

folder = Path(sys.argv[1])
with served(folder / "home", folder / "web.log") as web, httpx.Client(base_url=web.url, timeout=60) as client:
    def call(name, *values):
        answer = client.post(f"/gradio_api/run/{name}", json={"data": values, "session_hash": "somebody"})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"][0]

    for page in ("/", "/rate", "/train", "/compare"):
        assert client.get(page).status_code == 200, page
    starter = call("list_checkpoints")[0]
    asked = call("generate_group", "portrait, red hair", starter["id"], 2, "", 2, 1.0, "", 128, 128)
    end = time.monotonic() + 200
    while (group := call("get_group", asked["id"]))["state"] in ("queued", "running"):
        assert time.monotonic() < end, group
        time.sleep(0.5)
    assert group["state"] == "done", group
    assert len(group["images"]) == 2
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_pages_and_the_starter_work_with_the_network_off(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("needs the right to make a network namespace")
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], check=False).returncode != 0:
        pytest.skip("needs the right to make a network namespace")
    studio = [*alone, sys.executable, "-c", INSIDE, str(tmp_path)]
    done = subprocess.run(studio, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
