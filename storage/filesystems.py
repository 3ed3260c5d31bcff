"""Which kind of disk a folder lies on: SQLite's locks and shared memory do not work on all of them."""

from __future__ import annotations

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


def has_shared_memory(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """True where WAL is safe: all processes see one shared-memory index."""
    kind = kind_of(folder, mounts)
    return kind not in NO_SHARED_MEMORY and not kind.startswith("fuse.")
