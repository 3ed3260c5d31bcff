"""Settings that no run can have: a file for `app.py run`, the Train page's form, words of a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.corpus.cases import Case, given
from tests.faults.corpus.images import png_of

RUN: dict[str, Any] = {"prompts": ["red hair"], "reward_weights": {"verifier": 1.0}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a learning rate of 10^9": ({"update": {"learning_rate": 1e9}}, "less than or equal to 1"),
    "a learning rate of -1": ({"update": {"learning_rate": -1}}, "greater than 0"),
    "a learning rate of NaN": ({"update": {"learning_rate": float("nan")}}, "finite number"),
    "a learning rate of infinity": ({"update": {"learning_rate": float("inf")}}, "finite number"),
    "a group of 1": ({"rollout": {"group_size": 1}}, "greater than or equal to 2"),
    "a group of 10^9": ({"rollout": {"group_size": 10**9}}, "less than or equal to 256"),
    "no steps": ({"rollout": {"num_steps": 0}}, "greater than or equal to 2"),
    "no updates": ({"num_updates": 0}, "greater than or equal to 1"),
    "no prompts": ({"prompts": []}, "at least 1"),
    "1,000,000 prompts": ({"prompts": ["a"] * 1_000_000}, "at most 100,?000|too_long|Tuple"),
    "a prompt of no letters": ({"prompts": [""]}, "at least 1"),
    "a prompt that is a number": ({"prompts": [5]}, "valid string"),
    "rank 0": ({"lora": {"rank": 0}}, "greater than or equal to 1"),
    "rank 10^6": ({"lora": {"rank": 10**6}}, "less than or equal to 256"),
    "a seed of 2^70": ({"seed": 2**70}, "less than or equal to"),
    "a width of 10^6": ({"rollout": {"width": 10**6}}, "less than or equal to 2048"),
    "a setting that there is not": ({"lerning_rate": 1}, "there is no setting"),
    "a folder of its own": ({"output_folder": "data"}, "there is no setting output_folder"),
    "code": ({"__class__": "os.system"}, "there is no setting"),
    "a truth for a number": ({"num_updates": "many"}, "valid integer"),
    "rewards without weight": ({"reward_weights": {}}, "reward"),
    "a weight of NaN": ({"reward_weights": {"verifier": float("nan")}}, "finite number"),
    "references of 5,000 letters": ({"references": "a" * 5_000}, "at most 4096"),
}
TEXTS: dict[str, tuple[bytes, str]] = {
    "no bytes": (b"", "is not a run"),
    "no JSON": (b"prompts: [a]", "is not a run"),
    "a list": (b"[]", "is not a run"),
    "100,000 brackets": (b"[" * 100_000, "is not a run"),
    "a number of 5,000 digits": (b'{"seed": ' + b"9" * 5_000 + b"}", "is not a run"),
    "no text": (b"\xff\xfe\x00", "cannot be read"),
    "an image": (png_of(4, 4), "cannot be read"),
    "a pickle": (b"\x80\x04\x95", "cannot be read"),
}
FORM: dict[str, tuple[dict[str, Any], str]] = {
    "a learning rate of 10^9": ({"learning_rate": "1e9"}, "The learning rate must be"),
    "a learning rate of -1": ({"learning_rate": -1}, "The learning rate must be"),
    "a learning rate of NaN": ({"learning_rate": "nan"}, "The learning rate must be"),
    "a learning rate that is a list": ({"learning_rate": [1]}, "The learning rate must be"),
    "a group of 1": ({"group_size": 1}, "The group size must be"),
    "no steps": ({"num_steps": 0}, "Steps must be"),
    "no updates": ({"num_updates": 0}, "updates must be"),
    "no prompts": ({"prompts": " \n "}, "prompt"),
    "1,000,000 prompts": ({"prompts": "\n".join(map(str, range(1_000_000)))}, "at most 100,000"),
    "a prompt of 1 MB": ({"prompts": "a" * 1_000_000}, "shorten it"),
    "rank 10^6": ({"rank": 10**6}, "The LoRA rank must be"),
    "a weight of infinity": ({"weights": {"verifier": float("inf")}}, "weight of verifier"),
    "no weights": ({"weights": {"verifier": 0}}, "All reward weights are zero"),
    "a preset that there is not": ({"preset": "../../x"}, "The presets are"),
    "a name of 5,000 letters": ({"name": "a" * 5_000}, "shorten it"),
    "wanted images that are no folder": ({"references": "/dev/zero"}, "is no folder"),
    "wanted images at an address": ({"references": "http://169.254.169.254/"}, "is no folder"),
    "a judge of NUL": ({"judges": "a\0b"}, "control characters"),
    "a reward that there is not": ({"weights": {"evil": 1}}, "evil"),
}


def in_file(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "run.json").write_bytes(content)
        return folder / "run.json"

    return make


def changed(changes: dict[str, Any]) -> bytes:
    return json.dumps(RUN | changes).encode()


def words(*said: str) -> Callable[[Path], list[str]]:
    """Of a command; {run} is a file that is a run, {home} the data folder."""
    return lambda folder: [one.replace("{run}", str(in_file(changed({}))(folder))) for one in said]


def symlink(folder: Path) -> str:
    (folder / "a").mkdir()
    (folder / "a" / "a.png").symlink_to("/etc/passwd")
    return str(folder / "a")


def circle(folder: Path) -> str:
    (folder / "a").symlink_to(folder / "a")
    return str(folder / "a")


NO_GPU = "there is no device"
CASES = (
    *(Case(f"run with {name}", "run", in_file(changed(one)), said) for name, (one, said) in WRONG.items()),
    *(Case(f"run that is {name}", "run", in_file(one), said) for name, (one, said) in TEXTS.items()),
    Case("run that is a folder", "run", lambda folder: folder, "cannot be read"),
    Case("run that is not there", "run", lambda folder: folder / "no.json", "cannot be read"),
    *(Case(f"form with {name}", "form", given(one), said) for name, (one, said) in FORM.items()),
    Case("GPU 99", "command", words("worker", "--device", "cuda:99"), NO_GPU),
    Case("GPU -1", "command", words("worker", "--device", "cuda:-1"), NO_GPU),
    Case("device that is code", "command", words("run", "{run}", "--dry-run", "--device", "$(id)"), NO_GPU),
    Case("export into the data folder", "command", words("export", "tiny", "{home}"), "must end in"),
    Case("export over the database", "command", words("export", "tiny", "{home}/app.db"), "must end in"),
    Case("export of a base", "command", words("export", "tiny", "{home}/a.safetensors"), "is a base"),
    Case("export of what is not there", "command", words("export", "'; drop table run", "a.safetensors"),
         "There is no checkpoint"),
    Case("folder that is relative", "folder", given("../../etc"), "whole path"),
    Case("folder of the system", "folder", given("/etc"), "has no images|cannot be read|links lead"),
    Case("folder that is a file", "folder", given("/etc/passwd"), "no data folder"),
    Case("folder of NUL", "folder", given("/a\0b"), "no data folder"),
    Case("folder of 5,000 letters", "folder", given("/" + "a" * 5_000), "no data folder"),
    Case("folder that is an address", "folder", given("file:///etc"), "whole path"),
    Case("folder whose image is a link", "folder", symlink, "links lead out"),
    Case("folder that is its own link", "folder", circle, "no data folder"),
)  # fmt: skip
