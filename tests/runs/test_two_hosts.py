"""One run on two hosts that meet over a network alone: each is a network namespace with its own address.

What starts them is what `accelerate launch` starts for several hosts (configs/several_hosts.yaml): one
torch.distributed.run on each, with its rank and the first one's address. Accelerate does so for GPUs only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from storage import runs
from storage.engine import Database
from storage.models import Checkpoint
from tests.runs.helpers import ROOT, begin, new_run, train
from tests.runs.test_team import GROUPS, completed, moved_by, weights

PORT = "29555"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[tuple[str, str]]]:
    """(namespace, network card) of two hosts with one cable between them, 10.77.0.1 and 10.77.0.2."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    names = [f"fgs{os.getpid()}a", f"fgs{os.getpid()}b"]
    cards = [f"v{os.getpid()}a", f"v{os.getpid()}b"]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", cards[0], "netns", names[0], "type", "veth", "peer", cards[1], "netns", names[1])
        for number, (name, card) in enumerate(zip(names, cards, strict=True), start=1):
            _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", card)
            _ip("-n", name, "link", "set", card, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield list(zip(names, cards, strict=True))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _host(db: Database, run_id: str, attempt: int, rank: int, host: tuple[str, str]) -> subprocess.Popen[str]:
    name, card = host
    launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank)]
    launcher += ["--nproc_per_node", "1", "--master_addr", "10.77.0.1", "--master_port", PORT]
    trainer = ["-m", "flowgrpo.runs.train", "--home", str(db.home), "--device", "cpu", run_id, str(attempt)]
    here = {"GLOO_SOCKET_IFNAME": card, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, *launcher, *trainer],
        cwd=ROOT,
        env=os.environ | here,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(400)
def test_a_run_on_two_hosts_ends_with_the_weights_of_one(
    db: Database, tiny: Checkpoint, hosts: list[tuple[str, str]]
) -> None:
    changes = {"num_updates": 2, "checkpoint_every": 1, "samples": 0, "rollout": GROUPS}
    alone = begin(db, new_run(db, tiny, **changes))
    train(db, alone)
    completed(db, alone)
    shared = begin(db, new_run(db, tiny, **changes))
    both = [_host(db, shared.id, shared.attempt, rank, host) for rank, host in enumerate(hosts)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said[0][-3000:] + said[1][-3000:]
    completed(db, shared)
    one, two = weights(db, alone, 1), weights(db, shared, 1)
    assert moved_by(one, two) < 0.02 * moved_by(one, {name: 0 * tensor for name, tensor in one.items()})
    counted = [
        {m.update: m.value for m in runs.metrics_since(db, run.id, -1) if m.name == "groups/samples"}
        for run in (alone, shared)
    ]
    assert counted[0] == counted[1]
