"""Adapters that are programs, lie in their headers, or fit nothing; each a file called .safetensors."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.corpus.cases import Case, given

MODULE = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
WIDTH = 64
"""Of that module of the tiny base, both ways."""
DOWN, UP = f"{MODULE}.lora_A.weight", f"{MODULE}.lora_B.weight"
Tensors = Mapping[str, tuple[str, list[int], bytes]]
BITS = {"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "I32": 32, "F8_E4M3": 8}


def floats(count: int, value: float = 0.01) -> bytes:
    return struct.pack("<f", value) * count


def pair(rank: int = 2, value: float = 0.01) -> dict[str, tuple[str, list[int], bytes]]:
    """A LoRA of one module that fits."""
    count = rank * WIDTH
    return {
        DOWN: ("F32", [rank, WIDTH], floats(count, value)),
        UP: ("F32", [WIDTH, rank], floats(count, value)),
    }


def framed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def written(tensors: Tensors, metadata: Any = None, **changes: Any) -> bytes:
    """A safetensors file; `changes` are entries of the header, by name of a tensor's key in it."""
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    if changes:
        entries[DOWN] = entries[DOWN] | changes
    return framed(json.dumps(entries).encode(), data)


def with_bit(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


class Program:
    """What a pickle could run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("a pickle was opened",)


def pickled() -> bytes:
    return pickle.dumps(Program())


def torch_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled())
    return file.getvalue()


def in_file(value: float, at: int) -> bytes:
    """A LoRA with one number of another kind."""
    tensors = pair()
    dtype, shape, content = tensors[UP]
    return written(
        tensors | {UP: (dtype, shape, content[:at] + struct.pack("<f", value) + content[at + 4 :])}
    )


def of_names(count: int) -> bytes:
    one = '"{}.lora_A.weight":{{"dtype":"F32","shape":[0,1],"data_offsets":[0,0]}}'
    return framed(("{" + ",".join(one.format(number) for number in range(count)) + "}").encode())


def twice_named() -> bytes:
    one = f'"{DOWN}":{{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}'
    return framed(f"{{{one},{one}}}".encode(), bytes(8))


def of_shape(shape: list[Any], dtype: str = "F32", name: str = DOWN) -> bytes:
    count = math.prod(shape) if all(isinstance(one, int) and one >= 0 for one in shape) else 0
    return written({name: (dtype, shape, bytes(min(count * BITS.get(dtype, 32) // 8, 10**7)))})


def told(**facts: Any) -> bytes:
    """A LoRA that fits, whose metadata say something of it."""
    said = {f"unet.{key}": value for key, value in facts.items()}
    return written(pair(), {"lora_adapter_metadata": json.dumps(said)})


def in_file_of(make: Callable[[], bytes]) -> Callable[[Path], tuple[str, bytes]]:
    return lambda folder: ("a.safetensors", make())


DAMAGED = "damaged or cut short"
GOOD = written(pair())
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a pickle": (pickled, DAMAGED),
    "torch's own format": (torch_file, DAMAGED),
    "no bytes": (lambda: b"", DAMAGED),
    "HTML": (lambda: b"<script>alert(1)</script>" * 9, DAMAGED),
    "cut in half": (lambda: GOOD[: len(GOOD) // 2], DAMAGED),
    "cut by a byte": (lambda: GOOD[:-1], DAMAGED),
    "a byte too long": (lambda: GOOD + b"\0", DAMAGED),
    "header of 10^15 bytes": (lambda: struct.pack("<Q", 10**15) + GOOD[8:], DAMAGED),
    "header of 2^64 - 1 bytes": (lambda: b"\xff" * 8 + GOOD[8:], DAMAGED),
    "header of no bytes": (lambda: bytes(8) + GOOD[8:], DAMAGED),
    "header of 9 MB": (lambda: framed(b"{" + b" " * (9 * 2**20) + b"}"), "is no model"),
    "header that is a list": (lambda: framed(b"[1, 2]"), DAMAGED),
    "header that is no JSON": (lambda: framed(b"{'a': 1}"), DAMAGED),
    "header 100,000 deep": (lambda: framed(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), DAMAGED),
    "header that is no text": (lambda: framed(b"\xff\xfe{}"), DAMAGED),
    "a name twice": (twice_named, DAMAGED),
    "tensors that overlap": (lambda: written(pair(), data_offsets=[4, 4 + 8 * WIDTH]), DAMAGED),
    "tensors that end before they begin": (lambda: written(pair(), data_offsets=[8, 0]), DAMAGED),
    "tensors behind the end": (lambda: written(pair(), data_offsets=[2**40, 2**40 + 8 * WIDTH]), DAMAGED),
    "negative offsets": (lambda: written(pair(), data_offsets=[-8 * WIDTH, 0]), DAMAGED),
    "offsets that are text": (lambda: written(pair(), data_offsets=["0", "8"]), DAMAGED),
    "a shape of another size": (lambda: written(pair(), shape=[3, WIDTH]), DAMAGED),
    "a shape beyond 64 bits": (lambda: written(pair(), shape=[2**62, 2**62, 4]), DAMAGED),
    "a negative shape": (lambda: written(pair(), shape=[-2, -WIDTH]), DAMAGED),
    "a shape of fractions": (lambda: written(pair(), shape=[2.0, WIDTH]), DAMAGED),
    "a shape that is true": (lambda: written(pair(), shape=[True, 2 * WIDTH]), DAMAGED),
    "a type that is not known": (lambda: written(pair(), dtype="F32; rm -rf"), "of a type"),
    "a type that is no text": (lambda: written(pair(), dtype=["F32"]), "of a type"),
    "more in an entry": (lambda: written(pair(), code="import os"), DAMAGED),
    "a name of control characters": (lambda: of_shape([2, 1], name="a\r\n2026 ERROR.lora_A.weight"), DAMAGED),
    "a name of 10,000 letters": (lambda: of_shape([2, 1], name="a" * 10_000 + ".lora_A.weight"), DAMAGED),
    "40,000 tensors": (lambda: of_names(40_000), "40,000 tensors"),
    "metadata that are no texts": (lambda: written(pair(), {"a": {"b": 1}}), DAMAGED),
    "no tensors": (lambda: written({}), "holds no adapter"),
    "NaN": (lambda: in_file(math.nan, 40), "not finite"),
    "infinity": (lambda: in_file(-math.inf, 0), "not finite"),
    "a number of 10^30": (lambda: in_file(1e30, 16), "above 10,000"),
    "a bit of a number flipped": (lambda: with_bit(GOOD, len(GOOD) - 1, 6), "above 10,000|not finite"),
    "a bit of the length flipped": (lambda: with_bit(GOOD, 1, 3), DAMAGED),
    "a bit of a name flipped": (lambda: with_bit(GOOD, GOOD.index(b"lora_A"), 0), "no plain LoRA"),
    "a bit of an offset flipped": (lambda: with_bit(GOOD, GOOD.index(b"[0, 5") + 1, 0), DAMAGED),
    "rank 0": (lambda: written({DOWN: ("F32", [0, WIDTH], b""), UP: ("F32", [WIDTH, 0], b"")}), "rank 0"),
    "rank 10^6": (lambda: of_shape([10**6, 1]), "rank 1,000,000"),
    "rank 257": (lambda: written(pair(257)), "rank 257"),
    "one axis": (lambda: of_shape([128]), "has 1 axes"),
    "nine axes": (lambda: of_shape([1] * 9), DAMAGED),
    "whole numbers": (lambda: of_shape([2, 64], "I32"), "of the type I32"),
    "numbers of 8 bits": (lambda: of_shape([2, 64], "F8_E4M3"), "of the type F8_E4M3"),
    "half of a pair": (lambda: written({DOWN: pair()[DOWN]}), "one half of"),
    "another width": (
        lambda: written({DOWN: ("F32", [2, 8], floats(16)), UP: ("F32", [WIDTH, 2], floats(128))}),
        "does not fit",
    ),
    "another base": (
        lambda: written({name.replace("unet.down_blocks", "transformer.single"): one
                         for name, one in pair().items()}),
        "does not have",
    ),
    "a base's tensor": (lambda: of_shape([2, 2], name="model.diffusion_model.a.weight"), "no plain LoRA"),
    "a LoKr": (lambda: of_shape([2, 2], name="lora_unet_a.lokr_w1"), "no plain LoRA"),
    "the text encoders": (lambda: of_shape([2, 2], name="lora_te1_a.lora_down.weight"), "text encoders"),
    "a scale of two numbers": (lambda: of_shape([2], name="lora_unet_a.alpha"), "no single number"),
    "a scale that is NaN": (lambda: told(lora_alpha=math.nan), "metadata of"),
    "a scale that is text": (lambda: told(lora_alpha="$(reboot)"), "metadata of"),
    "a scale of 10^300": (lambda: told(lora_alpha=1e300), "metadata of"),
    "settings that are a list": (
        lambda: written(pair(), {"lora_adapter_metadata": "[1]"}), "metadata of"
    ),
    "settings 100,000 deep": (
        lambda: written(pair(), {"lora_adapter_metadata": "[" * 100_000}), "metadata of"
    ),
}  # fmt: skip
NAMED = {
    "a.ckpt": ("no .safetensors file", GOOD),
    "a.bin": ("no .safetensors file", GOOD),
    "a.safetensors.zip": ("no .safetensors file", GOOD),
    "adapter_config.json": ("one .safetensors file", b'{"auto_mapping": {"base_model_class": "evil.Evil"}}'),
    "a.py": ("no .safetensors file", b"import os"),
}
HTML_INSIDE = {"ss_output_name": "<img src=x onerror=alert(1)>", "ss_comment": "{{7*7}}"}
CASES = (
    *(
        Case(f"adapter with {name}", "adapter", in_file_of(make), words)
        for name, (make, words) in FILES.items()
    ),
    *(Case(f"adapter called {name}", "adapter", given((name, data)), words)
      for name, (words, data) in NAMED.items()),
    Case("adapter with HTML in its metadata", "adapter",
         given(("a.safetensors", written(pair(), HTML_INSIDE))), "", is_taken=True),
    Case("adapter whose name climbs", "adapter", given(("../../../a.safetensors", GOOD)), "", is_taken=True),
)  # fmt: skip
