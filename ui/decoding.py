"""Images of strangers: few formats, limits before anything is decoded, and one file written anew for each.

Nothing of the file that was sent is kept but its pixels, and no decoder runs in this process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

from flowgrpo.decoder import DecoderError, Decoders
from ui.forms import Refused

FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""Fewer than stage 1 reads from a folder of this machine: each decoder is code that a stranger's bytes run
through.
"""
MAX_PIXELS: Final = 4096 * 4096
MAX_SIDE: Final = 16_384
"""Pixels; more is no picture but a strip, and no decoder of WebP would take it back."""
MAX_BYTES: Final = 128 * 2**20
"""Of one file; the largest that is taken has 128 MB without being packed at all."""
MAX_SCANS: Final = 100
"""Of a progressive JPEG, which has about 10. Each goes over all pixels, whatever few bytes it has."""
_SCAN = b"\xff\xda"
decoders: Final = Decoders()


def write_image(source: Path, target: Path, name: str) -> None:
    """Decodes a file wholly, writes its pixels as a PNG, and removes it.

    Args:
        name: what sentences call it.

    Raises:
        Refused: it is none of FORMATS, damaged, or too large.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _decoded(source, name, "png", target)
    except Refused:
        target.unlink(missing_ok=True)
        raise
    source.unlink()


def texts_of(source: Path, name: str) -> dict[str, str]:
    """What an image says in words, keyword to text. Raises Refused as `write_image` does."""
    texts: dict[str, str] = _decoded(source, name, "texts")["texts"]
    return texts


def _decoded(source: Path, name: str, op: str, target: Path | None = None) -> dict[str, Any]:
    """What a process of its own makes of a file, once the header says that it may be decoded."""
    _check_bytes(source, name)
    asked = {"source": str(source.resolve()), "target": str(target and target.resolve()), "formats": FORMATS}
    with decoders.lent() as decoder:
        try:
            width, height = _said(decoder.ask(asked | {"op": "size"}), source, name)["size"]
            _check_size(width, height, name)
            return _said(decoder.ask(asked | {"op": op}), source, name)
        except DecoderError as error:
            raise Refused(f"The image {name} {error}. Leave it out, or save it anew.") from error


def _said(answer: dict[str, Any], source: Path, name: str) -> dict[str, Any]:
    if "reason" in answer:
        reason = str(answer["reason"]).replace(str(source.resolve()), name)
        raise Refused(f"The image {reason}. Leave it out, or save it anew.")
    return answer


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Refused(
            f"The image {name} has {width:,} × {height:,} pixels, and {MAX_PIXELS // 10**6} million with no "
            f"side above {MAX_SIDE:,} are taken: make it smaller, or leave it out."
        )


def _check_bytes(source: Path, name: str) -> None:
    """What a decoder would read whole, or go over again and again."""
    if source.stat().st_size > MAX_BYTES:
        raise Refused(
            f"The image {name} has more than {MAX_BYTES // 2**20} MB: save it anew, or leave it out."
        )
    with source.open("rb") as file:
        if file.read(2) == b"\xff\xd8" and _count(file, _SCAN) > MAX_SCANS:
            raise Refused(
                f"The image {name} has more than {MAX_SCANS} scans, which no camera writes: save it anew, or "
                "leave it out."
            )


def _count(file: BinaryIO, mark: bytes) -> int:
    """How often two bytes stand in a file."""
    count, last = 0, b""
    while chunk := file.read(1 << 20):
        count += (last + chunk).count(mark)
        last = chunk[-1:]
    return count
