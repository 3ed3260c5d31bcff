"""Replays the Dockerfile without Docker: its steps in clean roots, then a container of it, and measures both.

    make image                                  # as root, on Debian, with debootstrap; ten minutes
    python -m tools.replay_dockerfile --build-arg TORCH_INDEX= --constrain torch==2.13.0+cpu --only-build

The base image is not downloaded: a clean root of the same release of Debian with its own Python of the same
version stands for it, made by debootstrap. `--keep` leaves the roots for a look; without it nothing is left.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from tools import build_context, checked_container, dockerfile, namespaces, roots

ROOT: Final = Path(__file__).resolve().parents[1]
NEEDED_BYTES: Final = 25 * 10**9
"""Of the disk: two roots with the packages for CUDA, which share their files, and room to unpack."""
TOOLS: Final = ("debootstrap", "unshare", "chroot", "nsenter", "setpriv", "ip", "mount")
TORCH: Final = "TORCH_INDEX"


class Replay:
    """Builds the stages of a Dockerfile below a folder, each in a root of its own.

    Args:
        build_args: in place of the defaults of ARG.
        log: where what the steps say goes.
    """

    def __init__(
        self, context: Path, work: Path, build_args: Mapping[str, str], carried: roots.Carried, log: IO[bytes]
    ) -> None:
        self.context, self.work, self.log = context, work, log
        self.build_args, self.carried = dict(build_args), carried
        self.rules = build_context.rules_of((context / ".dockerignore").read_text())
        self.images: dict[str, dockerfile.Image] = {}
        self.seconds: dict[str, float] = {}

    def build(self) -> tuple[Path, dockerfile.Image]:
        """All stages; the last one's root and what a container of it starts with."""
        stages = dockerfile.read((self.context / "Dockerfile").read_text(), self.build_args)
        base = self.work / "base"
        began = time.monotonic()
        roots.make_base(base, stages[0].base, self.carried, self.log)
        self.seconds["base"] = time.monotonic() - began
        for stage in stages:
            if stage.base != stages[0].base:
                raise ValueError(f"stage {stage.name}: expected the base {stages[0].base}, got {stage.base}")
            began = time.monotonic()
            subprocess.run(["cp", "--archive", str(base), str(self._root(stage.name))], check=True)
            self._build_stage(stage)
            self.seconds[stage.name] = time.monotonic() - began
        made = self.images[stages[-1].name]
        if (made.volumes, made.ports) != (["/data"], [7860]):
            raise ValueError(f"expected the volume /data and port 7860, got {made.volumes} and {made.ports}")
        return self._root(stages[-1].name), made

    def _root(self, stage: str) -> Path:
        return self.work / f"stage-{stage}"

    def _build_stage(self, stage: dockerfile.Stage) -> None:
        image = self.images[stage.name] = dockerfile.Image(env={"PATH": roots.PATH})
        arguments: dict[str, str] = {}
        for step in stage.steps:
            print(f"{stage.name}, line {step.line}: {step.name} {step.text[:90]}", flush=True)
            if step.name == "ARG":
                arguments |= dockerfile.argument(step, self.build_args)
            elif step.name == "RUN":
                self._run(stage.name, step, image, arguments)
            elif step.name == "COPY":
                self._copy(stage.name, step, image, arguments)
            image.note(step, arguments | image.env)
            if step.name == "WORKDIR":
                (self._root(stage.name) / image.workdir.strip("/")).mkdir(parents=True, exist_ok=True)

    def _run(
        self, stage: str, step: dockerfile.Step, image: dockerfile.Image, arguments: Mapping[str, str]
    ) -> None:
        command = namespaces.as_user(image.user, image.workdir, step.command())
        env = {**arguments, **image.env, **self.carried.env, "DEBIAN_FRONTEND": "noninteractive"}
        namespaces.run_step(self._root(stage), command, env, self.carried.binds, self.log)

    def _copy(
        self, stage: str, step: dockerfile.Step, image: dockerfile.Image, arguments: Mapping[str, str]
    ) -> None:
        *sources, target = dockerfile.expand(step.text, {**arguments, **image.env}).split()
        goal = self._root(stage) / str(Path(image.workdir) / target).strip("/")
        if other := step.flags.get("from"):
            goal.mkdir(parents=True, exist_ok=True)
            for source in sources:  # links where Docker copies: the earlier stage is done with
                inside = self._root(other) / source.strip("/")
                subprocess.run(["cp", "--archive", "--link", f"{inside}/.", str(goal)], check=True)
        else:
            build_context.copy(self.context, sources, goal, self.rules)


def main(argv: list[str] | None = None) -> int:
    """Builds, starts and checks; prints the figures as JSON."""
    parser = argparse.ArgumentParser(description="Replays the Dockerfile without Docker.")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--constrain", action="append", default=[], help="of pip: torch==2.13.0+cpu")
    parser.add_argument("--only-build", action="store_true", help="build and measure, start nothing")
    parser.add_argument("--work", type=Path, help="folder of the roots; made, and removed afterwards")
    parser.add_argument("--keep", action="store_true", help="leave the roots")
    given = parser.parse_args(argv)
    work = Path(given.work or tempfile.mkdtemp(prefix="flowgrpo-image-")).resolve()
    work.mkdir(parents=True, exist_ok=True)
    try:
        _check_machine(work)
        build_args = _reachable(dict(word.split("=", 1) for word in given.build_arg))
        carried = roots.Carried.of_this_machine(work)
        if given.constrain:
            carried.constrain(work, given.constrain)
        with (work / "log.txt").open("wb") as log:
            figures = _replay(work, build_args, carried, log, only_build=given.only_build)
    except (ValueError, OSError, subprocess.SubprocessError) as error:
        print(f"The replay failed: {error}\n{_tail(work)}", file=sys.stderr)
        return 1
    finally:
        if not given.keep:
            _remove(work)
    print(json.dumps(figures, indent=1))
    return 0


def _replay(
    work: Path, build_args: Mapping[str, str], carried: roots.Carried, log: IO[bytes], *, only_build: bool
) -> dict[str, object]:
    replay = Replay(ROOT, work, build_args, carried, log)
    root, image = replay.build()
    figures: dict[str, object] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "build_args": dict(build_args),
        "packages": _versions(root),
        "build_seconds": {name: round(seconds) for name, seconds in replay.seconds.items()},
        "megabytes": {
            name: _megabytes(root / path)
            for name, path in (("image", "."), ("packages", "srv/venv"), ("studio", "srv/flowgrpo-studio"))
        },
    }
    if not only_build:
        figures |= checked_container.check(root, image, work, log)
    return figures


def _check_machine(work: Path) -> None:
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        raise ValueError(
            f"needs {', '.join(missing)}: on Debian, apt-get install debootstrap util-linux iproute2"
        )
    if os.getuid() != 0:
        raise ValueError("needs root, to make roots and namespaces")
    if (free := shutil.disk_usage(work).free) < NEEDED_BYTES:
        raise ValueError(f"needs {NEEDED_BYTES / 1e9:.0f} GB in {work}, and {free / 1e9:.0f} are free")


def _reachable(build_args: dict[str, str]) -> dict[str, str]:
    """The build arguments; where torch's own index is out of reach, the one of all else, and it is said."""
    if TORCH in build_args:
        return build_args
    stages = dockerfile.read((ROOT / "Dockerfile").read_text())
    steps = [step for stage in stages for step in stage.steps if step.name == "ARG"]
    index = next(value for step in steps if (value := dockerfile.argument(step, {}).get(TORCH)))
    try:
        urllib.request.urlopen(index, timeout=20).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError as error:
        print(f"{index} cannot be reached ({error}): torch comes from where all the rest does, for CUDA")
        return build_args | {TORCH: ""}
    return build_args


def _versions(root: Path) -> list[str]:
    lines = (root / "srv/venv/packages.txt").read_text().split()
    return [
        line for line in lines if line.partition("==")[0] in ("torch", "torchvision", "gradio", "diffusers")
    ]


def _megabytes(path: Path) -> int:
    said = subprocess.run(
        ["du", "-sx", "--block-size=1", str(path)], check=True, capture_output=True, text=True
    )
    return round(int(said.stdout.split()[0]) / 1e6)


def _tail(work: Path) -> str:
    log = work / "log.txt"
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:]) if log.exists() else ""


def _remove(work: Path) -> None:
    """Removes the roots, once nothing is mounted below them: what a mount shows is somebody else's."""
    if str(work) in Path("/proc/mounts").read_text():
        raise RuntimeError(f"something is mounted below {work}: unmount it, then remove the folder")
    shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
