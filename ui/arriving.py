"""Files of an upload -> a folder that stage 1 can learn from: every image decoded and written anew.

Nothing that was sent is kept as it was. Names become paths below the folder or are refused, images become
PNGs without metadata, captions become UTF-8 text. What is neither is left out, and counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from flowgrpo.imagefolder import CAPTION_SUFFIXES, IMAGE_SUFFIXES, LISTING, MAX_CAPTION_BYTES
from ui.decoding import write_image
from ui.forms import Refused

MAX_IMAGES = 5_000
MAX_LISTING = 64 * 2**20
_THREADS = 4
_FOREIGN = frozenset('\\:*?"<>|')
"""Characters that mean something else on some system."""


@dataclass
class Arrived:
    """What was made of an upload.

    Attributes:
        images: how many.
        left_out: files that are neither images nor captions.
    """

    images: int = 0
    left_out: int = 0
    names: dict[str, str] = field(default_factory=dict)
    """Image as it was called, to the name of the PNG."""


def arrange(files: Sequence[tuple[str, Path]], folder: Path) -> Arrived:
    """Writes images and captions into `folder`, which is empty, and removes each file that it has read.

    Raises:
        Refused: a name that leads out of the folder, two files of one name, a broken image, too many of them.
    """
    named = _without_common_folder([(_parts(name), path) for name, path in files])
    wanted = [
        (parts, path) for parts, path in named if not any(part.startswith((".", "__")) for part in parts)
    ]
    images = [(parts, path) for parts, path in wanted if _suffix(parts) in IMAGE_SUFFIXES]
    texts = [(parts, path) for parts, path in wanted if _suffix(parts) in CAPTION_SUFFIXES]
    listings = [path for parts, path in wanted if parts == (LISTING,)]
    if not images:
        kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise Refused(f"There is no image among these files: add images ({kinds}), or one .zip of them.")
    if len(images) > MAX_IMAGES:
        raise Refused(f"A dataset takes {MAX_IMAGES:,} images at most here, these are {len(images):,}.")
    found = Arrived(len(images), len(wanted) - len(images) - len(texts) - len(listings))
    targets = [(*parts[:-1], f"{PurePosixPath(parts[-1]).stem}.png") for parts, _ in images]
    _refuse_twins([*targets, *(parts for parts, _ in texts)])
    for (parts, _), target in zip(images, targets, strict=True):
        found.names["/".join(parts)] = "/".join(target)
    with ThreadPoolExecutor(_THREADS) as threads:
        places = [folder.joinpath(*target) for target in targets]
        jobs = zip((path for _, path in images), places, ("/".join(p) for p, _ in images), strict=True)
        list(threads.map(lambda job: write_image(*job), jobs))
    for parts, path in texts:
        _write_text(path, folder.joinpath(*parts), "/".join(parts), MAX_CAPTION_BYTES)
    for path in listings:
        _write_listing(path, folder / LISTING, found.names)
    return found


def _parts(name: str) -> tuple[str, ...]:
    """The steps of a path below the folder; Refused for a name that may lead elsewhere."""
    parts = tuple(name.replace("\\", "/").split("/"))
    is_odd = any(
        part in ("", ".", "..") or len(part.encode()) > 200 or not part.isprintable() or _FOREIGN & set(part)
        for part in parts
    )
    if is_odd or len(parts) > 8:
        raise Refused(f"A file is called “{name[:80]}”, which is no plain name below a folder: rename it.")
    return parts


def _without_common_folder(
    named: Sequence[tuple[tuple[str, ...], Path]],
) -> list[tuple[tuple[str, ...], Path]]:
    """A folder that all files lie in says nothing, and would hide a metadata.jsonl."""
    first = {parts[0] for parts, _ in named if not parts[0].startswith(("__MACOSX", "."))}
    is_common = len(first) == 1 and all(len(parts) > 1 for parts, _ in named)
    return [(parts[1:] if is_common else parts, path) for parts, path in named]


def _suffix(parts: tuple[str, ...]) -> str:
    return PurePosixPath(parts[-1]).suffix.lower()


def _refuse_twins(targets: Sequence[tuple[str, ...]]) -> None:
    seen: set[str] = set()
    for target in targets:
        name = "/".join(target)
        if name.casefold() in seen:
            raise Refused(f"Two files would be called {name[:80]} here: give each image a name of its own.")
        seen.add(name.casefold())


def _write_text(source: Path, target: Path, name: str, most: int) -> None:
    if source.stat().st_size > most:
        raise Refused(f"The text {name} is too long: it may have {most:,} bytes.")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"The text {name} is not UTF-8 (at byte {error.start}): save it as UTF-8.") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def _write_listing(source: Path, target: Path, names: Mapping[str, str]) -> None:
    """The same lines with the images' new names; what is wrong with a line the reader of the folder says."""
    _write_text(source, target, LISTING, MAX_LISTING)
    lines = []
    for line in target.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            row = None
        lines.append(_renamed(row, names) or line)
    target.write_text("\n".join(lines), encoding="utf-8")


def _renamed(row: object, names: Mapping[str, str]) -> str | None:
    """The line with the image's new name; None for one that names no image of ours."""
    name = row.get("file_name") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(name, str) or name not in names:
        return None
    return json.dumps(row | {"file_name": names[name]})
