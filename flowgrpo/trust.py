"""What a base of strangers may be: a plain name on the hub, parts that diffusers and transformers have,
weights whose headers fit. Looked at before anything of it is loaded, for loading is where code would run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flowgrpo.tensorheader import PICKLES, read_header

LIBRARIES: Final = ("diffusers", "transformers", "stable_diffusion", "stable_diffusion_xl")
"""Where the parts of an index come from; the last two are folders inside diffusers."""
MAX_JSON: Final = 16 * 2**20
"""Bytes of a configuration; tokenizers have the longest, of some MB."""
OWN_CODE: Final = ("auto_map", "auto_mapping", "custom_pipelines", "custom_pipeline")
"""Keys of a configuration that name Python to be fetched and run."""
CONFIGS: Final = ("config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json")
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.)){0,95}"
_HUB_ID = re.compile(rf"({_NAME}/{_NAME})(?:@({_NAME}(?:/{_NAME}){{0,3}}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CLASS = re.compile(r"[A-Z][A-Za-z0-9_]{0,95}")


def hub_id(where: str) -> tuple[str, str | None] | None:
    """(owner/name, revision or None) of `owner/name` or `owner/name@revision`; None for any other text."""
    match = _HUB_ID.fullmatch(where)
    return (match[1], match[2]) if match else None


def checked_commit(name: str, revision: str) -> str:
    """Raises LookupError unless a revision is the hash of a commit, which is all that is ever kept."""
    if not _COMMIT.fullmatch(revision):
        raise LookupError(f"the hub named no commit of {name}: name it as owner/name@ and the commit's hash")
    return revision


def check_parts(index: Mapping[str, Any], name: str) -> None:
    """Raises ValueError for an index with a part that only code of the model's own could load."""
    for part, told in index.items():
        if part.startswith("_") or told is None or isinstance(told, bool | int | float | str):
            continue
        if not isinstance(told, list) or len(told) != 2:
            raise ValueError(f"the index of {name} is damaged at {part[:40]}: get the model again")
        library, class_name = told
        if library is None or class_name is None:
            continue
        if library not in LIBRARIES or not isinstance(class_name, str) or not _CLASS.fullmatch(class_name):
            raise ValueError(
                f"{name} needs code of its own for its {part[:40]} ({str(library)[:40]}), which is never run "
                "here: choose a model that diffusers knows"
            )


def check_folder(folder: Path, name: str) -> None:
    """Looks at the configurations and the headers of the weights of a diffusers folder.

    Raises ValueError for one that names code of its own, or has weights that are damaged or pickles.
    """
    refuse_pickles(folder)
    for path in sorted(folder.glob("*/*")):
        if path.name in CONFIGS:
            _check_config(path, name)
        elif path.suffix == ".safetensors":
            read_header(path, f"{path.parent.name}/{path.name} of {name}")


def refuse_pickles(folder: Path) -> None:
    """Raises ValueError for a diffusers folder whose network is there as pickles alone."""
    network = [path for part in ("unet", "transformer") for path in folder.glob(f"{part}/*.safetensors")]
    pickles = [path.name for path in sorted(folder.glob("*/*")) if path.suffix in PICKLES]
    if pickles and not network:
        raise ValueError(
            f"{pickles[0]} of {folder.name} is a pickle, which can run programs when it is opened; FlowGRPO "
            "reads safetensors only: get the model as .safetensors"
        )


def _check_config(path: Path, name: str) -> None:
    told = f"{path.parent.name}/{path.name} of {name}"
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"it has more than {MAX_JSON:,} bytes")
        read = json.loads(path.read_bytes())
        if not isinstance(read, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{told} cannot be read ({error}): get the model again") from error
    own = next((key for key in OWN_CODE if key in read), None)
    if own is not None:
        raise ValueError(
            f"{told} names code of its own ({own}), which is never run here: choose a model that "
            "diffusers knows"
        )
