"""Work that is under way beside its place; what a killed process left of it goes with the next try."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path

from storage.types import new_id


@contextmanager
def partial_of(target: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """A new empty file or folder beside `target`, to be renamed into its place; gone when the block ends.

    It is locked meanwhile: that tells it from what nobody works at any more, which is removed first.
    """
    for left in target.parent.glob(f".{escape(target.name)}.*.partial"):
        with suppress(OSError), _locked(left):
            _remove(left)
    with ExitStack() as held:
        partial = _begin(target, held, is_folder=is_folder)
        yield partial


def _begin(target: Path, held: ExitStack, *, is_folder: bool) -> Path:
    """Makes it and locks it; anew where somebody who tidied up came between the two."""
    while True:
        partial = target.with_name(f".{target.name}.{new_id()}.partial")
        if is_folder:
            partial.mkdir()
        else:
            partial.touch(exist_ok=False)
        held.callback(_remove, partial)
        with suppress(BlockingIOError, FileNotFoundError):
            held.enter_context(_locked(partial))
            if partial.exists():
                return partial


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Raises BlockingIOError where somebody works at it."""
    # a network file system locks only what may be written; a folder is never opened for that
    fd = os.open(path, os.O_NOFOLLOW | (os.O_RDONLY if path.is_dir() else os.O_RDWR))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
