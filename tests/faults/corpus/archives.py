"""Archives that lead elsewhere, unpack without end, or are none."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.faults.corpus.cases import Case
from tests.faults.corpus.images import saved

IMAGE = saved("PNG")
PAIR = {"a.png": IMAGE, "a.txt": b"red hair"}


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def with_mode(mode: int) -> bytes:
    """A member that says that it is no file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("a.png")
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, b"/etc/passwd")
    return file.getvalue()


def twice(first: str, second: str) -> bytes:
    return zipped({first: IMAGE, second: IMAGE})


def bomb(megabytes: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.png", "w") as member:
        for _ in range(megabytes):
            member.write(bytes(2**20))
    return file.getvalue()


def overlapping(count: int) -> bytes:
    """Many names for the bytes of one member."""
    data = bytearray(bomb(4))
    end = data.rindex(b"PK\x05\x06")
    begin = data.index(b"PK\x01\x02")
    entry = bytes(data[begin:end])
    entries = b"".join(entry.replace(b"a.png", f"{one:05d}"[:5].encode()) for one in range(count))
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, count, count, len(entries))
    return bytes(data[:begin]) + entries + bytes(tail)


def of_entries(count: int) -> bytes:
    """A list of empty files and nothing else."""
    entry = b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    entries = (entry + b"a") * count
    end64 = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, len(entries), 0)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, len(entries), 1)
    last = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return entries + end64 + locator + last


def changed(mark: bytes, shift: int, value: bytes) -> bytes:
    """Our own archive with a few bytes of its records changed."""
    data = bytearray(zipped(PAIR, zipfile.ZIP_STORED))
    place = data.index(mark) + shift
    data[place : place + len(value)] = value
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(zipped(PAIR))
    for mark, shift in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + shift] |= 1
    return bytes(data)


def unknown_method() -> bytes:
    data = bytearray(zipped(PAIR))
    for mark, shift in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", data, data.index(mark) + shift, 99)
    return bytes(data)


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    return file.getvalue()


def nested() -> bytes:
    """42.zip in small: archives in archives."""
    inner = bomb(4)
    for _ in range(4):
        inner = zipped({f"{number}.zip": inner for number in range(8)})
    return inner


def archived(make: Callable[[], bytes]) -> Callable[[Path], dict[str, bytes]]:
    return lambda folder: {"all.zip": make()}


PLAIN = "no plain name"
BROKEN = "cannot be unpacked"
MAKERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "name that climbs": (lambda: zipped({"../../a.png": IMAGE}), PLAIN),
    "name from the root": (lambda: zipped({"/etc/a.png": IMAGE}), PLAIN),
    "name of a drive": (lambda: zipped({"c:\\a.png": IMAGE}), PLAIN),
    "name of a share": (lambda: zipped({"\\\\host\\share\\a.png": IMAGE}), PLAIN),
    "folders without end": (lambda: zipped({"a/" * 40 + "a.png": IMAGE}), PLAIN),
    "a link": (lambda: with_mode(0o120777), "cannot be read as an image"),
    "a device": (lambda: with_mode(0o060666), "cannot be read as an image"),
    "two names that differ in case": (lambda: twice("a.png", "A.PNG"), "Two files would be called"),
    "two images of one stem": (lambda: twice("a.png", "a.jpg"), "Two files would be called"),
    "300 MB of zeros": (lambda: bomb(300), "100 times its size"),
    "200 names for the same bytes": (lambda: overlapping(200), "times its size|cannot be unpacked"),
    "archives in archives": (nested, "no image among"),
    "20,000 files": (lambda: of_entries(20_000), "20,000 files"),
    "1,000,000 files": (lambda: of_entries(1_000_000), "1,000,000 files"),
    "wrong checksum": (lambda: changed(b"red hair", 0, b"bad"), BROKEN),
    "locked": (encrypted, "password"),
    "unknown method": (unknown_method, BROKEN),
    "cut in half": (lambda: zipped(PAIR)[: len(zipped(PAIR)) // 2], BROKEN),
    "a list that lies elsewhere": (lambda: changed(b"PK\x05\x06", 16, b"\xff\xff\xff\x7f"), BROKEN),
    "empty": (lambda: zipped({}), "no image among"),
    "folders alone": (lambda: zipped({"a/": b"", "b/": b""}), "no image among"),
    "no bytes": (lambda: b"", BROKEN),
    "a tar": (tarred, BROKEN),
    "a program": (lambda: b"MZ" + bytes(5000), BROKEN),
}
CASES = tuple(
    Case(f"archive with {name}", "dataset", archived(make), words) for name, (make, words) in MAKERS.items()
)
