"""A clean root like that of an official Python image, by debootstrap, and what of this machine a build needs.

What is carried over (pip's configuration with the folders that it names, name servers, certificates) lies in
a folder of memory while a step runs: none of it is in the root afterwards.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from tools import namespaces

IMAGE = re.compile(r"(?:.*/)?python:(\d+\.\d+)(?:\.\d+)?-slim-([a-z]+)(?:@sha256:[0-9a-f]{64})?")
PATH: Final = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
"""As the official images have it."""
CARRIED: Final = "/run/carried"
"""Where a step finds what is carried over; /run is memory while a step runs."""
SLIMMED: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt")
"""What slim images go without; the folders stay."""
_LOCAL = re.compile(r"(?:file://)?(/[^\s]+)")


@dataclass
class Carried:
    """Folders and files of this machine, to where a step sees them, and variables that say so."""

    binds: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_this_machine(cls, work: Path) -> Carried:
        """pip's configuration, written to `work` with the paths that a step sees, and what networks need."""
        found = cls({"/etc/resolv.conf": "/etc/resolv.conf", "/etc/hosts": "/etc/hosts"})
        lines = ["[global]"]
        for name, value in _pip_settings().items():
            lines.append(f"{name} = {_LOCAL.sub(found._bind, value)}")
        config = work / "pip.conf"
        config.write_text("\n".join(lines) + "\n")
        found.binds[str(config)] = f"{CARRIED}/pip.conf"
        found.env["PIP_CONFIG_FILE"] = f"{CARRIED}/pip.conf"
        proxies = re.compile(r"(?i)(https?|no)_proxy")
        found.env |= {name: value for name, value in os.environ.items() if proxies.fullmatch(name)}
        return found

    def constrain(self, work: Path, requirements: list[str]) -> None:
        """Holds pip to these, whatever the machine's own configuration says."""
        path = work / "constraints.txt"
        path.write_text("\n".join(requirements) + "\n")
        self.binds[str(path)] = f"{CARRIED}/constraints.txt"
        self.env["PIP_CONSTRAINT"] = f"{CARRIED}/constraints.txt"

    def _bind(self, found: re.Match[str]) -> str:
        path = Path(found[1])
        if not path.exists():
            return found[0]
        # the files of an index lie beside its folder of names
        top = path.parent if path.name == "simple" else path
        self.binds[str(top)] = f"{CARRIED}{top}"
        return found[0].replace(found[1], f"{CARRIED}{path}")


def make_base(root: Path, image: str, carried: Carried, log: IO[bytes]) -> None:
    """Makes `root` hold Debian and its Python, of the release and the version that a tag says.

    Raises:
        ValueError: the image is no slim one of Python. CalledProcessError: debootstrap or apt failed.
    """
    said = IMAGE.fullmatch(image)
    if said is None:
        raise ValueError(f"expected an image such as python:3.11.15-slim-bookworm, got {image}")
    python, suite = f"python{said[1]}", said[2]
    command = [*namespaces.UNSHARE, "--", "debootstrap", "--variant=minbase", suite, str(root)]
    subprocess.run(command, check=True, stdout=log, stderr=log)
    _add_updates(root, suite)
    for name in ("resolv.conf", "hosts", "hostname"):  # Docker's are empty, and laid over in a container
        (root / "etc" / name).write_text("")
    packages = f"ca-certificates {python} {python}-venv"
    install = f"apt-get install --yes --no-install-recommends {packages}"
    script = f"apt-get update && apt-get upgrade --yes && {install} && rm -r /var/lib/apt/lists/*"
    env = {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", **carried.env}
    namespaces.run_step(root, ["sh", "-euc", script], env, carried.binds, log)
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{python}")
    for name in SLIMMED:
        for path in (root / name).iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _add_updates(root: Path, suite: str) -> None:
    """apt's sources with the updates that official images have too."""
    first = (root / "etc/apt/sources.list").read_text().split()
    mirror = first[1].rstrip("/")
    security = mirror.removesuffix("/debian") + "/debian-security"
    lines = [
        f"deb {mirror} {suite} main",
        f"deb {mirror} {suite}-updates main",
        f"deb {security} {suite}-security main",
    ]
    (root / "etc/apt/sources.list").write_text("\n".join(lines) + "\n")


def _pip_settings() -> dict[str, str]:
    """What pip is told on this machine, files and variables alike, as names of its configuration."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    settings: dict[str, str] = {}
    for name, value in re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", said, re.MULTILINE):
        settings[name] = value.replace("\\n", " ").strip()
    settings.pop("config-file", None)
    return settings
