"""A folder of captioned images -> examples, the data of stage 1. No torch.

Two habits are read, each with all its folders below:

    captions beside images    a.png and a.txt (Danbooru, kohya), or a.caption where there is no a.txt;
                              the images of a folder `10_name` are shown ten times an epoch (kohya)
    an imagefolder            metadata.jsonl at the top (Hugging Face datasets), each line an object with
                              `file_name` and one of `text`, `caption`, `prompt` and `tags`

Hidden files are passed over, and so are links to folders, for what they lead to is in the folder already.
Whatever else does not fit is refused in a sentence that names the first few files.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from flowgrpo import pixels

IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
CAPTION_SUFFIXES = (".txt", ".caption")
"""An image with both has its tags in the first and a sentence in the second; the first one counts."""
LISTING = "metadata.jsonl"
CAPTION_KEYS = ("text", "caption", "prompt", "tags")
"""The first of them that a line has, and that is not empty, is its caption."""
MAX_CAPTION_BYTES = 64 * 1024
"""A longer text file is no caption; the longest of Danbooru's tag lists have a few KiB."""
MAX_REPEATS = 1000
"""A folder `2024_summer` means a year, and not that its images are shown 2024 times."""
_REPEATS = re.compile(r"(\d+)_.+")
_HOW = (
    "give each image a text file of its name (a.png, a.txt), or the folder a metadata.jsonl "
    'with a line {"file_name": "a.png", "text": "1girl, solo"} for each image'
)


@dataclass(frozen=True)
class Example:
    """A captioned image.

    Attributes:
        path: Absolute.
        caption: As it was written, without blanks at its ends.
        width, height: Of the upright image, pixels.
        repeats: How often an epoch shows it, at least 1.
    """

    path: Path
    caption: str
    width: int
    height: int
    repeats: int = 1


def read_folder(folder: Path, *, allow_empty: bool = False, decode: bool = False) -> list[Example]:
    """The examples of a folder in the order of their paths, or in that of its metadata.jsonl.

    Args:
        folder: Of one of the two habits above.
        allow_empty: Takes images without a caption, and those with an empty one, with the caption "": for a
            run that learns a trigger word alone.
        decode: Decodes every image once, some 20 to 80 ms a megapixel; else headers alone are read, and a
            truncated image is first found when it is learned from.

    Raises LookupError for a folder or an image that is not there, ValueError for whatever else is wrong.
    """
    if not os.path.isdir(folder):  # False for a name that no folder can have, where pathlib raises
        raise LookupError(f"there is no data folder {folder}: expected a folder of images; {_HOW}")
    root = folder.resolve()
    files = _files(root)
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    is_listed = root / LISTING in files
    captioned = _listed(root) if is_listed else _beside(root, files, images)
    named = {path for path, _ in captioned}
    captioned += [(path, "") for path in images if path not in named]
    if not captioned:
        raise LookupError(
            f"the data folder {folder} has no images: expected files that end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}; {_HOW}"
        )
    silent = [path for path, caption in captioned if not caption]
    if silent and not allow_empty:
        raise ValueError(
            f"no caption, or an empty one, belongs to {_some(root, silent)}: {_HOW}; "
            "or allow empty captions, for a run that learns a trigger word alone"
        )
    repeats = [1 if is_listed else _repeats(root, path) for path, _ in captioned]
    return _measured(root, captioned, repeats, decode)


def _files(root: Path) -> list[Path]:
    """All that is not hidden below root, by path; refuses links that lead out of it, or nowhere."""
    files: list[Path] = []
    astray: list[Path] = []
    for folder, folders, names in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = [Path(folder, name) for name in [*folders, *names] if not name.startswith(".")]
        astray += [path for path in below if path.is_symlink() and not _is_inside(root, path)]
        files += [path for path in below if path.is_file()]
    if astray:
        raise ValueError(
            f"links lead out of the data folder {root}, or nowhere: {_some(root, sorted(astray))}; "
            "put the files themselves in their place"
        )
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _refuse(error: OSError) -> NoReturn:
    raise LookupError(
        f"{error.filename} cannot be read ({error.strerror}): let this user read it, or take it out of the "
        "data folder"
    ) from error


def _is_inside(root: Path, path: Path) -> bool:
    """Whether it is there, and below root, once all links are followed."""
    return path.exists() and path.resolve().is_relative_to(root)


def _beside(root: Path, files: Sequence[Path], images: Sequence[Path]) -> list[tuple[Path, str]]:
    """The images that have a caption beside them, with it."""
    written = {
        (path.with_suffix(""), path.suffix.lower()): path
        for path in files
        if path.suffix.lower() in CAPTION_SUFFIXES
    }
    stems = {path.with_suffix("") for path in images}
    lonely = [path for (stem, _), path in written.items() if stem not in stems]
    if lonely:
        raise ValueError(
            f"no image belongs to {_some(root, lonely)}: a caption has the name of its image (a.png, a.txt); "
            "rename or remove what is no caption"
        )
    keys = [(image, (image.with_suffix(""), suffix)) for image in images for suffix in CAPTION_SUFFIXES]
    beside = {image: written[key] for image, key in reversed(keys) if key in written}
    return [(image, _text(root, beside[image])) for image in images if image in beside]


def _text(root: Path, path: Path) -> str:
    if path.stat().st_size > MAX_CAPTION_BYTES:
        raise ValueError(f"{path.relative_to(root)} is too long for a caption: rename or remove it")
    return _utf8(root, path).strip()


def _utf8(root: Path, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.relative_to(root)} is not UTF-8 text (at byte {error.start}): save it as UTF-8"
        ) from error
    except OSError as error:
        _refuse(error)


def _listed(root: Path) -> list[tuple[Path, str]]:
    """The images of metadata.jsonl with their captions, line by line; an image may have several lines."""
    lines = _utf8(root, root / LISTING).split("\n")  # JSON may hold what splitlines() takes for line ends
    rows = [_row(root, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    missing = [path for path, _ in rows if not os.path.isfile(path)]  # of any name: no OSError for a long one
    if missing:
        raise LookupError(
            f"{LISTING} names images that are not there: {_some(root, missing)}; "
            "add them, or remove their lines"
        )
    return rows


def _row(root: Path, number: int, line: str) -> tuple[Path, str]:
    where = f"line {number} of {LISTING}"
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()  # fails for half a character, which JSON can escape
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}): {_HOW}") from error
    name = row.get("file_name") if isinstance(row, dict) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{where} has no file_name: {_HOW}")
    path = Path(os.path.normpath(root / name))
    if not path.resolve().is_relative_to(root):
        raise ValueError(
            f"{where} names {name}, which lies outside of the data folder {root}: "
            "put the image into the folder, and name it by its path there"
        )
    return path, _caption_of(row, where)


def _caption_of(row: dict[str, object], where: str) -> str:
    for key in CAPTION_KEYS:
        value = row.get(key)
        if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
            value = ", ".join(value)
        if not isinstance(value, str | None):
            raise ValueError(f"{where} has a {key} that is neither a text nor a list of texts: {_HOW}")
        if value and value.strip():
            return value.strip()
    return ""


def _measured(
    root: Path, captioned: Sequence[tuple[Path, str]], repeats: Sequence[int], decode: bool
) -> list[Example]:
    """The examples with the sizes of their images; decoded, or from their headers."""
    examples: list[Example] = []
    broken: list[str] = []
    for (path, caption), times in zip(captioned, repeats, strict=True):
        try:
            width, height = pixels.decode(path).size if decode else pixels.upright_size(path)
        except ValueError as error:
            broken.append(str(error))
        else:
            examples.append(Example(path, caption, width, height, times))
    if broken:
        count = "1 image" if len(broken) == 1 else f"{len(broken)} images"
        raise ValueError(f"{count} of {root} cannot be used; repair or remove them: {'; '.join(broken[:3])}")
    return examples


def _repeats(root: Path, path: Path) -> int:
    """By the nearest folder of kohya's pattern; the data folder's own name is none."""
    for name in reversed(path.relative_to(root).parent.parts):
        if match := _REPEATS.fullmatch(name):
            if not 1 <= int(match.group(1)) <= MAX_REPEATS:
                raise ValueError(
                    f"the folder {name} asks to show its images {match.group(1)} times an epoch (kohya's "
                    f"habit); expected 1 to {MAX_REPEATS}: rename it, or remove it"
                )
            return int(match.group(1))
    return 1


def _some(root: Path, paths: Sequence[Path]) -> str:
    """The first few files by name, and how many they are."""
    names = [path.relative_to(root).as_posix() for path in paths[:3]]
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    count = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    return f"{count} ({', '.join(names)}{more})"
