"""compose.yaml is one by its schema, and its services have what they need and no more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from storage.masking import is_secret_name
from storage.postgres import PASSWORD_FILE
from storage.version import VERSION
from tests.repository import tree

COMPOSE = tree.ROOT / "compose.yaml"
OURS = ("studio", "worker", "worker-gpu")


@cache
def compose() -> Mapping[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(COMPOSE))


def service(name: str) -> Mapping[str, Any]:
    return dict(compose()["services"][name])


def test_the_schema_of_compose_files_takes_it() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [str(program), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("name", ["db", *OURS])
def test_no_service_can_get_a_privilege_or_change_its_image(name: str) -> None:
    said = service(name)
    assert (said["read_only"], said["cap_drop"]) == (True, ["ALL"])
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(said)
    assert "/tmp" in said["tmpfs"]
    assert said.get("user", "the image's") != "root"


def test_the_password_stands_in_a_file_alone() -> None:
    ((secret, where),) = compose()["secrets"].items()
    assert where == {"file": f"./secrets/{secret}"}
    for name in ("db", *OURS):
        assert service(name)["secrets"] == [secret]
        environment = service(name)["environment"]
        words = [key for key in environment if is_secret_name(key) and not key.endswith("_FILE")]
        assert words == []
    assert service("db")["environment"]["POSTGRES_PASSWORD_FILE"] == f"/run/secrets/{secret}"
    for name in OURS:
        address = service(name)["environment"]["DATABASE_URL"]
        assert address == f"postgresql://studio@db:5432/studio?{PASSWORD_FILE}=/run/secrets/{secret}"
    ignored = (tree.ROOT / ".gitignore").read_text().splitlines()
    assert "/secrets/" in ignored


def test_all_hosts_share_rows_and_folder_and_each_has_a_name_of_its_own() -> None:
    names = {service(name)["environment"]["FLOWGRPO_HOST"] for name in OURS}
    assert len(names) == len(OURS)
    assert {tuple(service(name)["volumes"]) for name in OURS} == {("data:/data",)}
    assert len({service(name)["environment"]["FLOWGRPO_DEVICE_LOCKS"] for name in OURS}) == 1
    assert service("studio")["environment"]["FLOWGRPO_EXECUTOR"] == "workers"
    for name in ("worker", "worker-gpu"):
        assert service(name)["command"][0] == "worker"
        assert "ports" not in service(name)


def test_each_service_begins_when_what_it_needs_is_well() -> None:
    assert service("studio")["depends_on"] == {"db": {"condition": "service_healthy"}}
    for name in ("worker", "worker-gpu"):
        assert set(service(name)["depends_on"]) == {"db", "studio"}
        assert {one["condition"] for one in service(name)["depends_on"].values()} == {"service_healthy"}
        command = service(name)["healthcheck"]["test"]
        assert (command[:3], command[4:]) == (["CMD", "python", "-m"], ["worker"])
        assert find_spec(command[3]) is not None
    assert service("db")["healthcheck"]["test"][1] == "pg_isready"


def test_only_this_machine_reaches_the_studio_and_nobody_else_the_server() -> None:
    assert [name for name in ("db", *OURS) if "ports" in service(name)] == ["studio"]
    (port,) = service("studio")["ports"]
    assert port == "127.0.0.1:7860:7860"
    assert service("db")["networks"] == ["rows"]
    assert compose()["networks"]["rows"] == {"internal": True}


def test_a_server_is_made_as_the_studio_asks() -> None:
    options = service("db")["environment"]["POSTGRES_INITDB_ARGS"]
    assert "--encoding=UTF8" in options
    assert "--locale=C.UTF-8" in options


def test_the_gpu_is_asked_for_by_one_profile_alone() -> None:
    assert service("worker-gpu")["profiles"] == ["gpu"]
    assert [name for name in OURS if "deploy" in service(name)] == ["worker-gpu"]


def test_the_release_and_what_a_build_is_told_are_the_dockerfiles() -> None:
    assert {service(name)["image"] for name in OURS} == {f"flowgrpo-studio:${{FLOWGRPO_TAG:-{VERSION}}}"}
    index = service("studio")["build"]["args"]["TORCH_INDEX"].removeprefix("${TORCH_INDEX-").removesuffix("}")
    assert f"ARG TORCH_INDEX={index}\n" in (tree.ROOT / "Dockerfile").read_text()


def test_every_variable_that_it_sets_for_the_studio_is_on_the_readme() -> None:
    readme = (tree.ROOT / "README.md").read_text(encoding="utf-8")
    set_here = {name for one in OURS for name in service(one)["environment"]}
    assert [name for name in sorted(set_here) if f"`{name}`" not in readme] == []
