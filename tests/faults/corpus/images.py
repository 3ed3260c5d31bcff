"""Images that are none, lie about themselves, or carry more than pixels; with a caption, as an upload."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image, PngImagePlugin

from tests.faults.corpus.cases import Case, given

NOT_READ = "cannot be read as an image"
TOO_LARGE = "make it smaller"
Maker = Callable[[], bytes]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *middle: bytes, depth: int = 8, kind: int = 0) -> bytes:
    """A PNG of zeros, or one with chunks of its own in the middle."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = b"".join(middle) or chunk(b"IDAT", zeros(height * (1 + width * depth // 8)))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """So many zero bytes, deflated without ever being in memory."""
    deflate = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [deflate.compress(block[: min(len(block), count - at)]) for at in range(0, count, len(block))]
    return b"".join([*parts, deflate.flush()])


def saved(form: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **more: object) -> bytes:
    file = io.BytesIO()
    picture = Image.effect_noise(size, 60).convert(mode)
    picture.save(file, form, **more)
    return file.getvalue()


def rgba(width: int, height: int) -> bytes:
    return png_of(width, height, chunk(b"IDAT", zeros(height * (1 + 4 * width))), kind=6)


def ppm() -> bytes:
    return b"P6 4 4 255\n" + bytes(48)


def gif_of(frames: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 4, 4, 0) + b"\x02\x05\x84\x8f\xa9\xcb\x05\0"
    return head + frame * frames + b";"


def apng_of(frames: int) -> bytes:
    data = zlib.compress(bytes(4 * 5))
    parts = [chunk(b"acTL", struct.pack(">II", frames, 0))]
    control = struct.pack(">IIIIHHBB", 4, 4, 0, 0, 1, 10, 0, 0)
    parts.append(chunk(b"fcTL", struct.pack(">I", 0) + control) + chunk(b"IDAT", data))
    for number in range(1, frames):
        parts.append(chunk(b"fcTL", struct.pack(">I", 2 * number - 1) + control))
        parts.append(chunk(b"fdAT", struct.pack(">I", 2 * number) + data))
    return png_of(4, 4, *parts)


def with_text(key: str, text: str, *, is_packed: bool = False) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, text, zip=is_packed)
    return saved("PNG", pnginfo=info)


def with_app1(content: bytes, times: int = 1) -> bytes:
    """A JPEG with more in its EXIF than a camera writes."""
    jpeg = saved("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    return jpeg[:2] + segment * times + jpeg[2:]


def exif_in_circles() -> bytes:
    """Directories of EXIF that point at each other."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    directory = struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    return with_app1(b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + directory)


def exif_of_thousands() -> bytes:
    entries = b"".join(struct.pack("<HHII", 0x9286, 2, 0x7FFFFFFF, 8) for _ in range(5000))
    return with_app1(b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 5000) + entries)


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: each goes over all pixels."""
    file = io.BytesIO()
    Image.new("RGB", (4096, 4096), "gray").save(file, "JPEG", progressive=True)
    jpeg = file.getvalue()
    last = jpeg.rfind(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * count + jpeg[-2:]


def header_of_jpeg(width: int, height: int) -> bytes:
    jpeg = bytearray(saved("JPEG"))
    at = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, at + 5, height, width)
    return bytes(jpeg)


def tiff_of_a_huge_tile() -> bytes:
    entries = [
        (256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1),
        (322, 4, 1, 2**30), (323, 4, 1, 2**30), (324, 4, 1, 8), (325, 4, 1, 2**31),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHII", *one) for one in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def webp_of_one_grey() -> bytes:
    file = io.BytesIO()
    Image.new("L", (4_100, 4_100)).save(file, "WEBP", quality=1, method=0)
    return file.getvalue()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


SCRIPT = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(document.cookie)</script>"
FOREIGN: dict[str, Maker] = {
    "GIF of 10,000 frames": lambda: gif_of(10_000),
    "SVG with a script": lambda: SCRIPT,
    "HTML": lambda: HTML,
    "GIF that is an archive too": lambda: gif_of(1) + b"PK\x05\x06" + bytes(18),
    "FITS": lambda: b"SIMPLE  =                    T" + b" " * 2850,
    "FITS packed by gzip": lambda: b"SIMPLE  =                    T" + b"XTENSION= 'BINTABLE'" + b" " * 5710,
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nsystemdict\n",
    "PDF": lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n",
    "PSD": lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(64),
    "TIFF of a huge tile": tiff_of_a_huge_tile,
    "TIFF": lambda: saved("TIFF"),
    "BMP": lambda: saved("BMP"),
    "AVIF": lambda: saved("AVIF"),
    "ICO": lambda: saved("ICO"),
    "PCX": lambda: saved("PCX"),
    "TGA": lambda: saved("TGA"),
    "PPM": ppm,
    "JPEG 2000": lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64),
    "DDS": lambda: saved("DDS"),
    "XBM": lambda: b"#define a_width 9\n#define a_height 9\nstatic char a_bits[] = {0};\n",
    "WMF": lambda: b"\xd7\xcd\xc6\x9a" + bytes(40),
    "noise": lambda: bytes(range(256)) * 2000,
    "nothing but zeros": lambda: bytes(1_000_000),
    "no bytes": lambda: b"",
    "one byte": lambda: b"\x89",
}
"""What Pillow could open, or a browser would run, and no upload may be."""
BROKEN: dict[str, Maker] = {
    "PNG cut in half": lambda: half(saved("PNG")),
    "JPEG cut in half": lambda: half(saved("JPEG")),
    "WebP cut in half": lambda: half(saved("WEBP")),
    "PNG signature alone": lambda: b"\x89PNG\r\n\x1a\n",
    "PNG of 0 x 0": lambda: png_of(0, 0, chunk(b"IDAT", zlib.compress(b""))),
    "PNG of 0 x 9": lambda: png_of(0, 9, chunk(b"IDAT", zlib.compress(bytes(9)))),
    "PNG without pixels": lambda: png_of(4, 4, chunk(b"tEXt", b"a\0b")),
    "PNG with too few pixels": lambda: png_of(64, 64, chunk(b"IDAT", zlib.compress(bytes(99)))),
    "PNG whose pixels are noise": lambda: png_of(4, 4, chunk(b"IDAT", bytes(range(60)))),
    "PNG of a wrong checksum": lambda: damaged(saved("PNG"), 30),
    "PNG of 3 bits": lambda: png_of(4, 4, depth=3),
    "PNG whose text unpacks to 80 MB": lambda: png_of(
        4, 4, chunk(b"zTXt", b"a\0\0" + zeros(80 * 2**20)), chunk(b"IDAT", zlib.compress(bytes(20)))
    ),
    "JPEG without a scan": lambda: saved("JPEG")[: saved("JPEG").index(b"\xff\xda")] + b"\xff\xd9",
    "WebP of another length": lambda: saved("WEBP")[:4] + struct.pack("<I", 2**31) + saved("WEBP")[8:60],
}
LARGE: dict[str, Maker] = {
    "PNG of 9,000 x 9,000": lambda: png_of(9_000, 9_000),
    "PNG of 15,000 x 15,000": lambda: png_of(15_000, 15_000, depth=1),
    "PNG of 4,100 x 4,100": lambda: png_of(4_100, 4_100),
    "PNG of 1 x 100,000": lambda: png_of(1, 100_000),
    "PNG of 100,000 x 1": lambda: png_of(100_000, 1),
    "PNG of 2,147,483,647 x 1": lambda: png_of(2**31 - 1, 1, chunk(b"IDAT", zeros(99))),
    "JPEG that says 65,500 x 65,500": lambda: header_of_jpeg(65_500, 65_500),
    "WebP of 4,100 x 4,100": webp_of_one_grey,
}
HARMLESS: dict[str, tuple[str, Maker]] = {
    "APNG of 10,000 frames": ("a.png", lambda: apng_of(10_000)),
    "CMYK": ("a.jpg", lambda: saved("JPEG", mode="CMYK")),
    "16 bits": ("a.png", lambda: png_of(64, 48, depth=16)),
    "broken colour profile": ("a.png", lambda: saved("PNG", icc_profile=b"no profile at all")),
    "broken colour profile in a JPEG": ("a.jpg", lambda: saved("JPEG", icc_profile=bytes(5000))),
    "JPEG that is an archive too": ("a.jpg", lambda: saved("JPEG") + b"PK\x05\x06" + bytes(18)),
    "PNG with a script behind it": ("a.png", lambda: saved("PNG") + b"<?php system($_GET[0]); ?>"),
    "PNG with HTML in its text": ("a.png", lambda: with_text("parameters", "<img src=x onerror=alert(1)>")),
    "EXIF in circles": ("a.jpg", exif_in_circles),
    "EXIF of 5,000 entries": ("a.jpg", exif_of_thousands),
    "EXIF in 90 pieces": ("a.jpg", lambda: with_app1(b"Exif\0\0II*\0" + bytes(60_000), 90)),
    "PNG called .jpg": ("a.jpg", lambda: saved("PNG")),
    "palette with transparency": ("a.png", lambda: saved("PNG", mode="P", transparency=0)),
    "16 million pixels": ("a.png", lambda: png_of(4_096, 4_096)),
    "16 million pixels with transparency": ("a.png", lambda: rgba(4_096, 4_096)),
}
"""Called so; kept as pixels alone."""


def sent(make: Maker, name: str = "a.png") -> Callable[[object], dict[str, bytes]]:
    return lambda folder: {name: make(), "a.txt": b"red hair"}


def captioned(text: bytes) -> Callable[[object], dict[str, bytes]]:
    return lambda folder: {"a.png": saved("PNG"), "a.txt": text}


def listed(line: bytes) -> Callable[[object], dict[str, bytes]]:
    return lambda folder: {"a.png": saved("PNG"), "metadata.jsonl": line}


OTHERS = (
    Case("SVG by its own name", "dataset", given({"a.svg": SCRIPT}), "no image among"),
    Case("HTML by its own name", "dataset", given({"a.html": HTML}), "no image among"),
    Case("scans that never end", "dataset", sent(lambda: jpeg_of_scans(3_000), "a.jpg"), "scans"),
    Case("name that climbs", "dataset", sent(lambda: saved("PNG"), "../../a.png"), "no plain name"),
    Case("name of 300 letters", "dataset", sent(lambda: saved("PNG"), "a" * 300 + ".png"), "no plain name"),
    Case("name read backwards", "dataset", sent(lambda: saved("PNG"), "a\u202egnp.png"), "no plain name"),
    Case("name of a drive", "dataset", sent(lambda: saved("PNG"), "C:\\a.png"), "", is_taken=True),
    Case("caption of 1 MB", "dataset", captioned(b"a" * 1_000_000), "too long"),
    Case("caption of no text", "dataset", captioned(b"\xed\xa0\x80\xff"), "not UTF-8"),
    Case("caption of HTML", "dataset", captioned(HTML), "", is_taken=True),
    Case("listing that climbs", "dataset",
         listed(b'{"file_name": "../../../../etc/passwd", "text": "a"}'), "lies outside"),
    Case("listing that is no JSON", "dataset", listed(b"{" * 50_000), "is not JSON"),
    Case("listing of half a letter", "dataset",
         listed(b'{"file_name": "a.png", "text": "\\ud800"}'), "is not JSON"),
)  # fmt: skip
CASES = (
    *(Case(f"{name} called .png", "dataset", sent(make), NOT_READ) for name, make in FOREIGN.items()),
    *(Case(name, "dataset", sent(make), NOT_READ) for name, make in BROKEN.items()),
    *(Case(name, "dataset", sent(make), TOO_LARGE) for name, make in LARGE.items()),
    *(
        Case(name, "dataset", sent(make, called), "", is_taken=True)
        for name, (called, make) in HARMLESS.items()
    ),
    *OTHERS,
)
