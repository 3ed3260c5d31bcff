"""Weights that do not come with the studio: fetched once, from a pinned address, and never taken for others.

A small head lies in the studio's own cache folder and is checked against its SHA-256 each time that it is
opened. Repositories of the Hugging Face hub keep to the hub's own cache (`HF_HOME`), which other programs
share. `HF_HUB_OFFLINE` forbids both to use the network.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError

State = Literal["here", "to fetch", "unavailable"]
_CHUNK: Final = 1 << 20
_TIMEOUT_SECONDS: Final = 60
_YES: Final = ("1", "true", "yes", "on")


class Unavailable(LookupError):
    """Weights that are not here and cannot be had now; the sentence says which, how large, whose licence."""


class Mismatch(LookupError):
    """A file that is not the pinned one; it is never loaded."""


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _YES


def cache_folder() -> Path:
    """Where fetched heads lie for a caller that has opened no data folder: in that of the environment."""
    return Path(os.environ.get("FLOWGRPO_HOME", "data")) / "models" / "rewards"


@dataclass(frozen=True)
class Options:
    """What a reward may use while it loads."""

    weights: Path
    """The starter's folder of weights."""
    device: str = "cpu"
    """Where encoders run."""
    cache: Path = field(default_factory=cache_folder)
    """Where fetched heads lie."""
    offline: bool = field(default_factory=is_offline)
    """Nothing is fetched."""
    accepted: Mapping[str, str] = field(default_factory=dict)
    """Name of each reward whose licence notice somebody has accepted, without what stands behind a colon, to
    that notice's SHA-256."""
    head: Path | None = None
    """The preference head that is in use; None while nothing has been learned from votes."""


@dataclass(frozen=True)
class Pinned:
    """One file of the web, known by its content."""

    what: str
    """For sentences: "the head of LAION aesthetic V2"."""
    url: str
    sha256: str
    size_mb: float
    """About, to tell people; the hash is what counts."""
    licence: str

    @property
    def file(self) -> str:
        """Its name in the cache folder: the name of the web, and the hash's first digits."""
        return f"{self.sha256[:8]}-{Path(urlsplit(self.url).path).name}"


@dataclass(frozen=True)
class HubFile:
    """One file of a repository of the Hugging Face hub."""

    what: str
    repository: str
    names: tuple[str, ...]
    """The file, or the ways to call it; the first that exists is taken."""
    size_mb: float
    licence: str
    revision: str | None = None
    """The commit; None for today's, where the library that names the repository pins none."""


@dataclass(frozen=True)
class Shipped:
    """A file of the starter's folder; it is built, never fetched."""

    what: str
    path: str
    size_mb: float
    licence: str


@dataclass(frozen=True)
class Learned:
    """The preference head in use; it is fitted to votes, never fetched."""

    what: str
    size_mb: float
    licence: str


Weights = Pinned | HubFile | Shipped | Learned


def where(weights: Weights, options: Options) -> Path | None:
    """The file, when it is here."""
    match weights:
        case HubFile():
            return _in_hub_cache(weights)
        case Shipped():
            path = options.weights / weights.path
        case Learned():
            return options.head if options.head and options.head.is_file() else None
        case Pinned():
            path = options.cache / weights.file
    return path if path.is_file() else None


def standing(needed: Sequence[Weights], options: Options) -> tuple[State, str]:
    """Whether all of these are here, and the sentence of a card that says so."""
    missing = [weights for weights in needed if where(weights, options) is None]
    if not missing:
        return "here", "here"
    if options.offline or any(isinstance(weights, Shipped | Learned) for weights in missing):
        return "unavailable", "unavailable: needs " + " and ".join(map(_described, missing))
    size = sum(weights.size_mb for weights in missing)
    return "to fetch", f"fetched on first use: {_megabytes(size)}"


def obtain(weights: Pinned | HubFile, options: Options) -> Path:
    """The file: from the cache, or fetched now.

    Raises:
        Unavailable: It is not here, and the network is forbidden or did not give it.
        Mismatch: What is here, or what came, has another SHA-256 than pinned.
    """
    found = where(weights, options)
    if found is None and options.offline:
        raise Unavailable(f"needs {_described(weights)}, which is not here, and fetching is switched off")
    if isinstance(weights, HubFile):
        return found or _from_hub(weights)
    if found is None:
        return _download(weights, options.cache)
    if _digest(found) != weights.sha256:
        raise Mismatch(
            f"{found.name} is not {weights.what}: its SHA-256 differs; delete it to fetch it again"
        )
    return found


def _download(pinned: Pinned, folder: Path) -> Path:
    """Under a temporary name first: a broken transfer leaves nothing that could be taken for the file."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
    part = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as out,
            urllib.request.urlopen(_address(pinned), timeout=_TIMEOUT_SECONDS) as source,
        ):
            while chunk := source.read(_CHUNK):
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if _digest(part) != pinned.sha256:
            raise Mismatch(
                f"what {urlsplit(pinned.url).netloc} sent is not {pinned.what}: its SHA-256 differs"
            )
        part.replace(folder / pinned.file)
    except (OSError, HTTPException) as error:
        raise Unavailable(
            f"needs {_described(pinned)}, and {urlsplit(pinned.url).netloc} did not give it: {error}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return folder / pinned.file


def _address(pinned: Pinned) -> str:
    """The hub's files come from the mirror that `HF_ENDPOINT` names, as its own library does it."""
    return pinned.url.replace("https://huggingface.co", huggingface_hub.constants.ENDPOINT, 1)


def _in_hub_cache(wanted: HubFile) -> Path | None:
    for name in wanted.names:
        found = huggingface_hub.try_to_load_from_cache(wanted.repository, name, revision=wanted.revision)
        if isinstance(found, str):
            return Path(found)
    return None


def _from_hub(wanted: HubFile) -> Path:
    reason: Exception | None = None
    for name in wanted.names:
        try:
            path = huggingface_hub.hf_hub_download(wanted.repository, name, revision=wanted.revision)
            return Path(path)
        except (EntryNotFoundError, OSError) as error:
            reason = error
    raise Unavailable(f"needs {_described(wanted)}, and {wanted.repository} did not give it: {reason}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _described(weights: Weights) -> str:
    return f"{weights.what} ({_megabytes(weights.size_mb)}, {weights.licence})"


def _megabytes(size: float) -> str:
    return f"{size:.0f} MB" if size >= 10 else f"{size:.1f} MB" if size else "size unknown"
