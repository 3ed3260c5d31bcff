"""An environment for TRL: torch and diffusers as here, and the last release that has `DDPOTrainer`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

TRL_VERSION = "0.23.1"
"""TRL 0.24 has no `DDPOTrainer`."""
SHARED = ("torch", "diffusers", "transformers", "peft", "accelerate", "psutil")
FOLDER = Path("build/bench/trl")


def requirements() -> list[str]:
    """What is installed there; versions that both have are those of this environment."""
    return [f"trl=={TRL_VERSION}", *(f"{name}=={version(name).partition('+')[0]}" for name in SHARED)]


def interpreter(folder: Path) -> Path:
    """The Python of TRL's environment, which is made where there is none; some minutes and 6 GB, once."""
    python, stamp = folder / "bin" / "python", folder / "made-of.txt"
    wanted = "\n".join(requirements())
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"making an environment for TRL in {folder} (a few minutes, once)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    quietly = ("--disable-pip-version-check", "--quiet", "--progress-bar", "off")
    subprocess.run([str(python), "-m", "pip", "install", *quietly, *requirements()], check=True)
    stamp.write_text(wanted)
    return python
