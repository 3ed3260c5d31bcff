"""Bases that are elsewhere, nowhere, or programs: names as they are typed, folders and single files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.corpus.cases import Case, given
from tests.faults.corpus.weights import GOOD, framed, pickled, written

NOWHERE = "there is no folder"
TYPED: dict[str, tuple[str, str]] = {
    "a path that climbs": ("../../x", NOWHERE),
    "a command behind a revision": ("user/repo@main; rm -rf", NOWHERE),
    "a command in a revision": ("user/repo@$(reboot)", NOWHERE),
    "a hub id that climbs": ("user/..", NOWHERE),
    "a revision that climbs": ("user/repo@../../etc/passwd", NOWHERE),
    "a hub id of three parts": ("user/repo/file", NOWHERE),
    "an option": ("--help/x", NOWHERE),
    "an address of this machine": ("http://127.0.0.1:7860/model.safetensors", NOWHERE),
    "an address of the cloud": ("http://169.254.169.254/latest", NOWHERE),
    "a file address": ("file:///etc/passwd", NOWHERE),
    "a gopher": ("gopher://example.com/x", NOWHERE),
    "a file of the system": ("/etc/passwd", "is no model"),
    "a folder of the system": ("/etc", "has no model_index.json"),
    "a device": ("/dev/zero", NOWHERE),
    "a drive": ("C:\\models", NOWHERE),
    "a share": ("\\\\host\\share", NOWHERE),
    "a name of 900 letters": ("a" * 900, NOWHERE),
    "a name with NUL": ("a/b\0c", "control characters"),
    "a line of a log": ("a/b\n2026-01-01 ERROR gone", "control characters"),
    "half a letter": ("a/\udc80", "control characters"),
    "a branch that cannot be resolved": ("user/repo@main", "is on the hub, and this studio is offline"),
    "a repository with code": ("user/custom-pipeline", "is on the hub, and this studio is offline"),
}
INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet2DConditionModel"]
}  # fmt: skip
INDEXES: dict[str, tuple[bytes, str]] = {
    "that is no JSON": (b"{" * 9, "cannot be read"),
    "100,000 deep": (b"[" * 100_000, "cannot be read"),
    "that is a list": (b"[]", "cannot be read"),
    "of no bytes": (b"", "cannot be read"),
    "with a pipeline of its own": (
        json.dumps(INDEX | {"_class_name": ["pipeline", "Evil"]}).encode(), "FlowGRPO can drive"
    ),
    "of another pipeline": (json.dumps(INDEX | {"_class_name": "OnnxPipeline"}).encode(), "can drive"),
    "with a network of its own": (json.dumps(INDEX | {"unet": ["evil", "Net"]}).encode(), "code of its own"),
    "with a network of os": (json.dumps(INDEX | {"unet": ["os", "system"]}).encode(), "code of its own"),
    "with a function for a network": (
        json.dumps(INDEX | {"unet": ["transformers", "pipeline"]}).encode(), "code of its own"
    ),
    "with a path for a network": (
        json.dumps(INDEX | {"unet": ["../evil", "Net"]}).encode(), "code of its own"
    ),
    "with a number for a network": (json.dumps(INDEX | {"unet": [1, 2, 3]}).encode(), "index of"),
}  # fmt: skip
CONFIG, NETWORK = "text_encoder/config.json", "unet/diffusion_pytorch_model.safetensors"
CONFIGS: dict[str, tuple[bytes, str]] = {
    "auto_map": (b'{"auto_map": {"AutoModel": "evil.Evil"}}', "code of its own"),
    "auto_mapping": (b'{"auto_mapping": {"base_model_class": "Evil"}}', "code of its own"),
    "custom_pipelines": (b'{"custom_pipelines": {}}', "code of its own"),
    "no JSON": (b"<html>", "cannot be read"),
    "a list": (b"[]", "cannot be read"),
    "100,000 brackets": (b"[" * 100_000, "cannot be read"),
    "17 MB": (b'{"a": "' + b"a" * (17 * 2**20) + b'"}', "more than"),
}
WEIGHTS: dict[str, tuple[bytes, str]] = {
    "cut in half": (GOOD[: len(GOOD) // 2], "damaged or cut short"),
    "a pickle called .safetensors": (pickled(), "damaged or cut short"),
    "a header of 10^15 bytes": (struct.pack("<Q", 10**15), "damaged or cut short"),
    "a header of 9 MB": (framed(b"{" + b" " * (9 * 2**20) + b"}"), "is no model"),
}
FILES: dict[str, tuple[str, bytes, str]] = {
    "a pickle": ("a.ckpt", pickled(), "is a pickle"),
    "a pickle called .safetensors": ("a.safetensors", pickled(), "damaged or cut short"),
    "a LoRA": ("a.safetensors", GOOD, "is a LoRA, not a base"),
    "cut in half": ("a.safetensors", GOOD[: len(GOOD) // 2], "damaged or cut short"),
    "no bytes": ("a.safetensors", b"", "damaged or cut short"),
    "no known model": ("a.safetensors", written({"a.weight": ("F32", [1], bytes(4))}), "none of the models"),
    "a program": ("a.py", b"import os", "is no model"),
    "HTML": ("a.html", b"<script>", "is no model"),
}


def folder_of(folder: Path, files: dict[str, bytes]) -> str:
    for name, content in ({"model_index.json": json.dumps(INDEX).encode()} | files).items():
        path = folder / "base" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(folder / "base")


def with_file(name: str, content: bytes) -> Callable[[Path], str]:
    return lambda folder: folder_of(folder, {name: content})


def one_file(name: str, content: bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    return make


def pickles(folder: Path) -> str:
    return folder_of(folder, {"unet/diffusion_pytorch_model.bin": pickled()})


CASES = (
    *(Case(f"base that is {name}", "base", given(typed), words) for name, (typed, words) in TYPED.items()),
    *(
        Case(f"base with an index {name}", "base", with_file("model_index.json", data), words)
        for name, (data, words) in INDEXES.items()
    ),
    *(
        Case(f"base with {name} in a configuration", "base", with_file(CONFIG, data), words)
        for name, (data, words) in CONFIGS.items()
    ),
    *(
        Case(f"base with weights: {name}", "base", with_file(NETWORK, data), words)
        for name, (data, words) in WEIGHTS.items()
    ),
    *(
        Case(f"base of one file: {name}", "base", one_file(called, data), words)
        for name, (called, data, words) in FILES.items()
    ),
    Case("base with pickles for weights", "base", pickles, "is a pickle"),
)  # fmt: skip
