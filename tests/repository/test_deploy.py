"""The unit of systemd and the proxies are valid, and say what the program needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import tree
from ui.uploads import LIMITS

DEPLOY = tree.ROOT / "deploy"
UNIT, NGINX, CADDY = (DEPLOY / name for name in ("flowgrpo-studio.service", "nginx.conf", "Caddyfile"))


def without_comments(path: Path) -> str:
    return "\n".join(re.sub(r"^\s*#.*|\s#\s.*", "", line) for line in path.read_text().splitlines())


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in without_comments(UNIT).splitlines():
        name, sign, value = line.partition("=")
        if sign:
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_lets_runs_go_on_and_keeps_the_rest_in_its_folder() -> None:
    said = settings()
    assert (said["KillMode"], said["KillSignal"], said["OOMPolicy"]) == (
        ["process"],
        ["SIGINT"],
        ["continue"],
    )
    assert (said["NoNewPrivileges"], said["ProtectSystem"]) == (["yes"], ["strict"])
    assert "PrivateTmp" not in said, "runs that go on would lose their temporary files"
    (writable,) = said["ReadWritePaths"]
    paths = {name: value for name, _, value in (one.partition("=") for one in said["Environment"])}
    for name in ("FLOWGRPO_HOME", "HF_HOME", "TMPDIR"):
        assert Path(paths[name]).is_relative_to(writable), name
    (command,) = said["ExecStart"]
    assert command.endswith("python app.py serve")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = UNIT.read_text().replace("/srv/flowgrpo-studio/.venv/bin/python", sys.executable)
    (tmp_path / UNIT.name).write_text(unit)
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("path", [NGINX, CADDY], ids=lambda path: path.name)
def test_a_proxy_lets_uploads_and_event_streams_through_and_keeps_metrics(path: Path) -> None:
    text = without_comments(path)
    assert text.count("{") == text.count("}") > 0
    assert "127.0.0.1:7860" in text
    for route, limits in LIMITS.items():
        assert route.strip("/") in text
        assert limits.size <= 4 * 2**30, "the proxies say 4 GB"
    assert re.search(r"client_max_body_size\s+4g;|max_size 4GiB", text)
    assert re.search(r"proxy_buffering\s+off;|flush_interval -1", text)
    assert re.search(r"/metrics( \{ return)? 404", text)


def test_nginx_sets_what_the_origin_is_compared_with() -> None:
    text = without_comments(NGINX)
    for name, value in (
        ("Host", "$host"),
        ("X-Forwarded-Proto", "$scheme"),
        ("X-Forwarded-For", "$remote_addr"),
    ):
        assert re.search(rf"proxy_set_header {name}\s+{re.escape(value)};", text), name


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not here")
def test_nginx_takes_its_file(tmp_path: Path) -> None:
    names = ("fullchain.pem", "privkey.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=studio.example.org",
         "-keyout", str(tmp_path / names[1]), "-out", str(tmp_path / names[0])],
        check=True, capture_output=True,
    )  # fmt: skip
    site = NGINX.read_text().replace("/etc/ssl/studio.example.org", str(tmp_path))
    (tmp_path / "site.conf").write_text(site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind}; " for kind in kinds)
    inside = f"access_log off; {temporary}include {tmp_path}/site.conf;"
    main = f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ {inside} }}\n"
    (tmp_path / "main.conf").write_text(main)
    ran = subprocess.run(
        ["nginx", "-t", "-c", str(tmp_path / "main.conf"), "-p", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not here")
def test_caddy_takes_its_file() -> None:
    ran = subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", str(CADDY)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
