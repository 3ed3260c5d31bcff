"""Copies what ships from a build folder into the package: `python -m flowgrpo.starter.package BUILD`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from flowgrpo.starter.sums import write_sums

WEIGHTS = Path(__file__).parent / "weights"
PARTS = ("pipeline", "clip", "verifier", "judge", "quality", "report.json")
LIMIT_MB = 25


def install(build: Path, weights: Path = WEIGHTS) -> float:
    """Replaces the shipped weights by those of a finished build.

    Returns:
        Their size in MB.

    Raises:
        LookupError: the build is not finished.
        ValueError: it is larger than what a repository should carry.
    """
    missing = [part for part in PARTS if not (build / part).exists()]
    if missing:
        raise LookupError(f"the build in {build.name} has no {', '.join(missing)} yet: finish it first")
    files = [
        f for part in PARTS for f in ([build / part] if part.endswith("json") else (build / part).rglob("*"))
    ]
    size = sum(f.stat().st_size for f in files if f.is_file()) / 1e6
    if size > LIMIT_MB:
        raise ValueError(f"the starter may weigh {LIMIT_MB} MB at most, this build weighs {size:.1f} MB")
    shutil.rmtree(weights, ignore_errors=True)
    weights.mkdir(parents=True)
    for part in PARTS:
        source = build / part
        copy = shutil.copy2 if source.is_file() else shutil.copytree
        copy(source, weights / part)
    for config in (weights / "pipeline").rglob("*.json"):
        _forget_where_it_was_built(config)
    write_sums(weights)
    return size


def _forget_where_it_was_built(config: Path) -> None:
    """Drops diffusers' note of the folder that a part was loaded from: it names the builder's machine."""
    content = json.loads(config.read_text())
    if content.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="install a finished build of the starter into the package")
    parser.add_argument("build", type=Path, help="the folder given to flowgrpo.starter.build --out")
    sys.stdout.write(f"installed {install(parser.parse_args().build):.1f} MB in {WEIGHTS}\n")


if __name__ == "__main__":
    main()
