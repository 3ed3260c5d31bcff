"""Models on the hub: what one takes and what its licence is before anything is fetched, and the fetching.

Of a repository only those files are had that a diffusers pipeline reads: configurations, tokenizers, and
safetensors without a variant. A broken transfer goes on where it stopped.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from flowgrpo.trust import checked_commit, hub_id

INDEX = "model_index.json"
NO_ANSWER: type[Exception] = HfHubHTTPError.__bases__[0]
"""What the library's own HTTP client raises, whichever client that is."""
RESERVE = 2 * 10**9
"""Bytes of the disk that fetching leaves free."""
_SUFFIXES = (".json", ".txt", ".model", ".safetensors")
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|non_ema|ema)(\.|-\d)")
Tell = Callable[[int], None]
"""Bytes that are here so far; what it raises ends the fetching."""


@dataclass(frozen=True)
class HubModel:
    """A model at one commit.

    Attributes:
        files: name and bytes of each file that a pipeline reads.
        licence: as its page says; empty where it says nothing.
        is_gated: whether its makers let in only who accepted their terms.
    """

    name: str
    commit: str
    files: Sequence[tuple[str, int]]
    licence: str
    is_gated: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    @property
    def missing(self) -> list[tuple[str, int]]:
        """Files that are not on this machine, the smallest first."""
        absent = [one for one in self.files if not self._is_here(one[0])]
        return sorted(absent, key=lambda one: one[1])

    def _is_here(self, file: str) -> bool:
        return isinstance(try_to_load_from_cache(self.name, file, revision=self.commit), str)


def is_hub_id(where: str) -> bool:
    """Whether a source is `owner/name` (perhaps `@revision`) and nothing on this machine."""
    return hub_id(where) is not None and not Path(where).exists()


def go_offline() -> None:
    """From here on this process asks the hub for nothing, whatever a library thinks that it needs."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True


def look(where: str) -> HubModel:
    """What the hub says of a model; nothing is fetched.

    Raises:
        LookupError: it is not there, may not be had, or the hub does not answer.
    """
    name, _, revision = where.partition("@")
    with _told(name):
        info = HfApi().model_info(name, revision=revision or None, files_metadata=True)
    files = [(one.rfilename, int(one.size or 0)) for one in info.siblings or ()]
    card = info.card_data
    licence = (getattr(card, "license_name", None) or getattr(card, "license", None) or "") if card else ""
    commit = checked_commit(name, str(info.sha))
    return HubModel(name, commit, wanted(files), str(licence), is_gated=bool(getattr(info, "gated", False)))


def wanted(files: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those that a diffusers pipeline reads: the index, and of its folders the configurations and weights."""
    return [
        (name, size)
        for name, size in files
        if name == INDEX
        or (
            len(PurePosixPath(name).parts) == 2
            and name.endswith(_SUFFIXES)
            and not _VARIANT.search(PurePosixPath(name).name)
        )
    ]


def fetch(model: HubModel, tell: Tell) -> None:
    """Gets the files that are not here yet.

    Raises:
        LookupError: the hub does not give one of them. ValueError: the disk has no room for them.
    """
    left = model.missing
    needed, free = sum(size for _, size in left), _free()
    if left and needed + RESERVE > free:
        raise ValueError(
            f"{model.name} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on the disk of "
            f"{constants.HF_HUB_CACHE}: free some space, then add it again"
        )
    before = model.size - needed
    for name, size in left:
        with _told(model.name):
            hf_hub_download(model.name, name, revision=model.commit, tqdm_class=_bar(before, tell))
        before += size
        tell(before)


def _bar(before: int, tell: Tell) -> type[Any]:
    """A progress bar that shows nothing and tells how many bytes are here."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **named: Any) -> None:
            named.pop("name", None)
            super().__init__(*args, **named | {"disable": True})  # type: ignore[no-untyped-call]
            self.here = before + int(named.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self.here += int(n or 0)
            tell(self.here)
            return None

    return Bar


def _free() -> int:
    """Bytes on the disk of the hub's cache, whose folder may not be there yet."""
    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def _told(name: str) -> Any:
    """Errors of the hub as sentences about what to do."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise LookupError(
            f"{name} is on the hub, and this studio is offline (HF_HUB_OFFLINE): unset that, or name a "
            "folder or a file on this machine"
        ) from error
    except GatedRepoError as error:
        raise LookupError(
            f"the makers of {name} let in only who accepted their terms: accept them on its page at "
            "huggingface.co, put your token into HF_TOKEN, and start the studio again"
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise LookupError(
            f"the hub has no {name}: check how it is written; a private model needs a token in HF_TOKEN"
        ) from error
    except (NO_ANSWER, LocalEntryNotFoundError, ConnectionError) as error:
        raise LookupError(
            f"the hub did not answer about {name}: check the connection of this machine and try again, or "
            "name a folder or a file on this machine"
        ) from error
