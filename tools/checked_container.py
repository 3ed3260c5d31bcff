"""Starts a replayed image as its container would be, and checks what a person relies on on the first day."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any, Final

from tools.dockerfile import Image
from tools.namespaces import Container, as_user

START_SECONDS: Final = 180.0
ENGINE_SECONDS: Final = 300.0
DEMO_SECONDS: Final = 1500.0
GRACE_SECONDS: Final = 60.0
"""That compose.yaml gives."""
LINK = re.compile(r"http://127\.0\.0\.1:7860/setup#(\S+)")
VISIT: Final = """
import http.cookiejar, re, sys, urllib.error, urllib.parse, urllib.request
AT, SECRET = "http://127.0.0.1:7860", sys.argv[1]
cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)
browser.addheaders = [("Accept", "text/html")]
def title(path, form=None):
    data = urllib.parse.urlencode(form).encode() if form else None
    with browser.open(AT + path, data, timeout=60) as answer:
        assert answer.status == 200, answer.status
        page = answer.read().decode()  # Gradio's script sets the title, which stands in its own words before
        return re.search('<title>(.*?)</title>|"og:title" content="(?!Gradio")(.*?)"', page).group(1, 2)
print("before", title("/"))
try:
    browser.open(urllib.request.Request(AT + "/", headers={"Host": "elsewhere.example"}))
    sys.exit("another name was answered")
except urllib.error.HTTPError as refused:
    assert refused.code == 400, refused.code
form = {"link": SECRET, "name": "Ann", "password": "a sentence of hers", "again": "a sentence of hers"}
print("after", title("/setup", form))
print("page", title("/"))
"""
"""The way of the first admin: what nobody sees, the link, then the studio's own page."""
DEMO: Final = """
from pathlib import Path
from rich.console import Console
from flowgrpo.presets import smoke
from flowgrpo.runs.demo import DemoSettings, run_demo
settings = DemoSettings(num_updates=2, num_prompts=4, num_seeds=2, num_groups=1, num_reference=32)
run = smoke(("portrait, red hair, smile", "portrait, blue hair, glasses"))
run_demo(Path("/data/demo-home"), Path("/data/demo"), settings=settings, config=run, console=Console())
"""
"""`app.py demo` with less of everything, on one thread, so that it ends beside other work too."""


def check(root: Path, image: Image, work: Path, log: IO[bytes]) -> dict[str, object]:
    """Starts, visits, stops, starts again, and runs a small demonstration; returns the figures.

    Raises:
        ValueError: something is not as promised; the sentence says what.
        SubprocessError: a command failed, or took too long.
    """
    volume = work / "volume"
    subprocess.run(
        ["cp", "--archive", str(root / "data"), str(volume)], check=True
    )  # as a new volume gets it
    figures = _Figures()
    output = work / "serve.txt"
    with _Started(root, image, volume, [*image.entrypoint, *image.cmd], output) as studio:
        figures["first_start_to_health_seconds"] = _wait_for_health(studio, image)
        figures["first_start_to_engine_seconds"] = _wait_for_engine(studio, image)
        figures["visit"] = _visit(studio, image, _link(output))
        figures["processes"] = _privileges(studio, image)
        figures["stop"] = _stopped(studio, image)
    with _Started(root, image, volume, [*image.entrypoint, *image.cmd], work / "again.txt") as studio:
        figures["second_start_to_health_seconds"] = _wait_for_health(studio, image)
        figures["second_stop"] = _stopped(studio, image)
    if LINK.search((work / "again.txt").read_text()):
        raise ValueError("the second start made a link of a first admin, although there is one")
    figures["demo_seconds"] = _demo(root, image, volume, work)
    for name in ("serve.txt", "again.txt", "demo.txt"):
        log.write((work / name).read_bytes())
    return figures


class _Figures(dict[str, object]):
    """What was found, told as it is found: a later check may fail."""

    def __setitem__(self, name: str, value: object) -> None:
        print(f"{name}: {value}", flush=True)
        super().__setitem__(name, value)


class _Started:
    """A container for a block, which is gone afterwards however the block ends."""

    def __init__(self, root: Path, image: Image, volume: Path, command: list[str], output: Path) -> None:
        with output.open("wb") as said:
            whole = as_user(image.user, image.workdir, command)
            self.container = Container(root, volume, whole, image.env, said)
        self.output = output

    def __enter__(self) -> Container:
        return self.container

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.container.kill()
        if kind is not None:
            tail = self.output.read_text(errors="replace").splitlines()[-30:]
            print("\n".join(["The container said at last:", *tail]))


def _inside(
    studio: Container, image: Image, command: list[str], seconds: float
) -> subprocess.CompletedProcess[str]:
    return studio.execute(as_user(image.user, image.workdir, command), seconds)


def _health(studio: Container, image: Image) -> dict[str, Any] | None:
    """What the image's own HEALTHCHECK says, or None as long as it fails."""
    ran = _inside(studio, image, image.healthcheck, 30)
    return dict(json.loads(ran.stdout)) if ran.returncode == 0 else None


def _wait_for_health(studio: Container, image: Image) -> float:
    began = time.monotonic()
    while time.monotonic() - began < START_SECONDS:
        if _health(studio, image) is not None:
            return round(time.monotonic() - began, 1)
        time.sleep(0.2)
    raise ValueError(f"the container was not healthy within {START_SECONDS:.0f} s")


def _wait_for_engine(studio: Container, image: Image) -> float:
    """From health on: until the engine has given a sign of life, and draws what it is asked for."""
    began = time.monotonic()
    while time.monotonic() - began < ENGINE_SECONDS:
        found = _health(studio, image)
        if found is not None and found["checks"]["engine"] == "ok":
            return round(time.monotonic() - began, 1)
        time.sleep(0.5)
    raise ValueError(f"no engine within {ENGINE_SECONDS:.0f} s of health")


def _link(output: Path) -> str:
    found = LINK.search(output.read_text())
    if found is None:
        raise ValueError(f"the first start printed no link of the first admin: {output.read_text()}")
    return found[1]


def _visit(studio: Container, image: Image, secret: str) -> list[str]:
    ran = _inside(studio, image, ["python", "-c", VISIT, secret], 180)
    if ran.returncode != 0:
        raise ValueError(f"the visit failed: {ran.stderr}")
    if not re.search(r"^page .*FlowGRPO Studio", ran.stdout, re.MULTILINE):
        raise ValueError(f"expected the studio's page, got {ran.stdout}")
    return ran.stdout.splitlines()


def _privileges(studio: Container, image: Image) -> str:
    """Every process is the image's user's and can get no privilege; the root takes no writing."""
    look = "grep -hE '^(Uid|CapEff|CapBnd|NoNewPrivs)' /proc/[0-9]*/status | sort | uniq -c"
    said = _inside(studio, image, ["sh", "-c", look], 30).stdout
    number = image.user.partition(":")[0]
    wrong = [
        line for line in said.splitlines()
        if not re.search(rf"Uid:\s+{number}\s+{number}\s|Cap(?:Eff|Bnd):\s+0+$|NoNewPrivs:\s+1$", line)
    ]  # fmt: skip
    if wrong or not said:
        raise ValueError(f"processes with privileges: {wrong or 'none was seen'}")
    for folder in (image.workdir, "/etc", "/usr/bin", "/var", "/"):
        if _inside(studio, image, ["sh", "-c", f": > {folder}/written 2>&1"], 30).returncode == 0:
            raise ValueError(f"{folder} can be written to")
    return f"all of user {number}, without capabilities"


def _stopped(studio: Container, image: Image) -> str:
    code, seconds = studio.stop(signal.Signals[image.stop_signal], GRACE_SECONDS)
    if code != 0:
        raise ValueError(f"{image.stop_signal} ended the studio with {code} instead of 0")
    return f"exit 0 after {seconds:.1f} s"


def _demo(root: Path, image: Image, volume: Path, work: Path) -> float:
    began = time.monotonic()
    init = image.entrypoint[: image.entrypoint.index("--") + 1]
    with _Started(
        root, image, volume, [*init, "env", "OMP_NUM_THREADS=1", "python", "-c", DEMO], work / "demo.txt"
    ) as demo:
        code = demo.wait(DEMO_SECONDS)
        if code != 0:
            raise ValueError(f"the demonstration ended with {code}")
    for name in ("report.json", "before-after.png"):
        if not (volume / "demo" / name).stat().st_size:
            raise ValueError(f"the demonstration wrote an empty {name}")
    shutil.rmtree(volume / "demo-home")
    return round(time.monotonic() - began, 1)
