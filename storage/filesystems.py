"""Which kind of disk a folder lies on: SQLite's locks and shared memory do not work on all of them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import uuid
from pathlib import Path

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre"})
"""File locks are unreliable here."""
NO_SHARED_MEMORY = frozenset({"9p", "virtiofs", "vboxsf", "fuse", "fuseblk"})
"""Locks work, but a memory map is not always shared between processes: no WAL."""
_MOUNTS = Path("/proc/self/mounts")


def kind_of(folder: Path, mounts: Path = _MOUNTS) -> str:
    """The file system type of the mount that holds `folder`; empty where the system does not tell."""
    if not mounts.exists():
        return ""
    best, kind = -1, ""
    target = folder.resolve()
    for line in mounts.read_text(errors="replace").splitlines():
        _, point, found, *_ = line.split(" ")
        place = Path(point.replace("\\040", " "))
        if target.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), found
    return kind


def refuse_network(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Raises OSError when `folder` lies on a network file system."""
    kind = kind_of(folder, mounts)
    if kind in NETWORK:
        raise OSError(
            f"the data folder lies on a network file system ({kind}): choose a local disk for FLOWGRPO_HOME"
        )


def refuse_unshared(folder: Path, mounts: Path = _MOUNTS) -> None:
    """For a data folder that several hosts may share: tries on a network file system what the files rest on.

    Raises:
        OSError: a lock of one process does not keep another out, or a rename is not seen as one.
    """
    kind = kind_of(folder, mounts)
    if kind in NETWORK and not _keeps_promises(folder / "tmp" / f"probe-{uuid.uuid4().hex}"):
        raise OSError(
            f"file locks or renames do not work on the file system of the data folder ({kind}): mount it "
            "with locks that all hosts share (NFS 4 without local_lock), or choose another FLOWGRPO_HOME"
        )


_ANOTHER = """
import fcntl, os, sys
path = sys.argv[1]
fd = os.open(path, os.O_RDWR)
try:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(7)
new = os.open(path + ".new", os.O_WRONLY | os.O_CREAT)
os.write(new, b"whole")
os.fsync(new)
os.rename(path + ".new", path + ".renamed")
"""
_KEPT_OUT = 7


def _keeps_promises(path: Path) -> bool:
    """Another process is kept out by a lock, gets in after it, and leaves a file that is whole."""
    renamed = Path(f"{path}.renamed")
    try:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _try_from_another(path) != _KEPT_OUT:
                return False
            fcntl.flock(file, fcntl.LOCK_UN)
            return _try_from_another(path) == os.EX_OK and renamed.read_bytes() == b"whole"
    except OSError:
        return False
    finally:
        for left in (path, renamed, Path(f"{path}.new")):
            left.unlink(missing_ok=True)


def _try_from_another(path: Path) -> int:
    command = [sys.executable, "-I", "-S", "-c", _ANOTHER, str(path)]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode


def has_shared_memory(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """True where WAL is safe: all processes see one shared-memory index."""
    kind = kind_of(folder, mounts)
    return kind not in NO_SHARED_MEMORY and not kind.startswith("fuse.")
