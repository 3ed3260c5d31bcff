"""The process that strangers' images are decoded in: little memory, no secrets, nothing lost when it ends.

Messages are JSON over the socket whose descriptor is the argument; `flowgrpo.decoder` is the other end.

    python -m flowgrpo.pixel_server DESCRIPTOR
"""

from __future__ import annotations

import json
import resource
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from flowgrpo import pixels

MEMORY: Final = 2**30
"""Bytes of addresses; an image of 16.8 million pixels takes less than half of that, libraries included."""
MAX_TEXT: Final = 2**20
"""Characters of one text; longer ones are no settings of an image."""
_PNG_LEVEL: Final = 1
"""Of zlib: quick; pixels are the same at every level."""


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, or `{"reason": ...}` where the file is no image that may be read."""
    source, formats = Path(message["source"]), tuple(message["formats"])
    try:
        match message["op"]:
            case "size":
                return {"size": pixels.upright_size(source, formats)}
            case "texts":
                found = pixels.texts(source, formats)
                return {"texts": {key: text for key, text in found.items() if len(text) <= MAX_TEXT}}
            case _:
                write(source, Path(message["target"]), formats)
                return {}
    except ValueError as error:
        return {"reason": str(error)}
    except MemoryError:
        return {"reason": f"{source} takes more memory than is kept for one image"}


def write(source: Path, target: Path, formats: tuple[str, ...]) -> None:
    """Writes an image's pixels, and nothing else of it, as a PNG."""
    image = pixels.decode(source, formats)
    image.info.clear()  # Pillow would write a colour profile again
    image.save(target, "PNG", compress_level=_PNG_LEVEL)


def main() -> None:
    """Answers until the other end closes."""
    with suppress(OSError, ValueError):  # some systems know no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(int(sys.argv[1])) as connection, suppress(EOFError):
        while True:
            message = json.loads(connection.recv_bytes())
            connection.send_bytes(json.dumps(answer(message)).encode())


if __name__ == "__main__":
    main()
