"""FlowGRPO beside TRL's DDPO.

    python -m benchmarks.peers [--quick] [--trl PYTHON] [--only updates]

With OMP_NUM_THREADS=1 a side's processor time is its wall-clock on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.common import publish
from benchmarks.peers import compare
from benchmarks.peers.environment import FOLDER, interpreter


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two turns, one seed")
    parser.add_argument("--trl", type=Path, help="the Python of an environment with TRL; else one is made")
    parser.add_argument("--only", choices=("updates", "reward"))
    given = parser.parse_args()
    python = given.trl or interpreter(FOLDER)
    lines = []
    if given.only != "reward":
        lines += compare.updates(python, 2 if given.quick else 5)
        publish("peers", lines)
    if given.only != "updates":
        lines += compare.reward(python, 1 if given.quick else 3)
    publish("peers", lines)


if __name__ == "__main__":
    main()
