"""What may be asked of the hub, and what of an answer is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowgrpo.runs.process import child_environment
from flowgrpo.trust import check_folder, check_parts, checked_commit, hub_id

STARTER = Path(__file__).parents[2] / "flowgrpo" / "starter" / "weights" / "pipeline"


@pytest.mark.parametrize(
    ("where", "read"),
    [
        ("owner/name", ("owner/name", None)),
        ("stability-1.5/sd-v1-5@main", ("stability-1.5/sd-v1-5", "main")),
        ("a_b/c.d@refs/pr/1", ("a_b/c.d", "refs/pr/1")),
        ("owner/name@" + "a" * 40, ("owner/name", "a" * 40)),
        *((bad, None) for bad in (
            "", "a", "a/", "/a", "a/b/c", "../../x", "a/..", "..a/b", "a/b..c", "-a/b", "a/-b", "a/b@",
            "a/b@-c", "a/b@..", "a/b@a/../b", "user/repo@main; rm -rf", "a/b@c\n", "a /b", "ä/b", "a/b?c",
            "a/b#c", "a\\b/c", "http://a/b", "a/" + "b" * 97,
        )),
    ],
)  # fmt: skip
def test_a_hub_id_is_plain_or_none(where: str, read: tuple[str, str | None] | None) -> None:
    assert hub_id(where) == read


def test_only_the_hash_of_a_commit_is_kept() -> None:
    assert checked_commit("a/b", "0" * 40) == "0" * 40
    for other in ("main", "0" * 39, "0" * 41, "G" * 40, ""):
        with pytest.raises(LookupError, match="the hub named no commit of a/b"):
            checked_commit("a/b", other)


def test_the_starter_is_trusted() -> None:
    check_folder(STARTER, "starter")
    check_parts({"_class_name": "X", "safety_checker": [None, None], "requires_safety_checker": False}, "x")
    check_parts({"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}, "x")


def test_children_run_no_code_of_models_and_a_trainer_that_has_loaded_asks_the_hub_nothing() -> None:
    assert child_environment("MARK", "x")["DIFFUSERS_DISABLE_REMOTE_CODE"] == "1"
    program = (
        "from flowgrpo.runs import hub; from huggingface_hub import constants; import os\n"
        "assert not constants.is_offline_mode()\n"
        "hub.go_offline()\n"
        "assert constants.is_offline_mode() and os.environ['HF_HUB_OFFLINE'] == '1'\n"
        "try: hub.look('a/b')\n"
        "except LookupError as error: assert 'this studio is offline' in str(error)\n"
        "else: raise SystemExit(1)\n"
    )
    environment = child_environment("MARK", "x") | {"HF_HUB_OFFLINE": "0"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
