"""The example package is installed as anybody's would be, beside packages that are broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowgrpo.rewards.base import RewardSpec, ScoreBatch
from flowgrpo.rewards.isolated import IsolatedReward, describe
from flowgrpo.rewards.plugins import FoundPlugin, find_plugins

EXAMPLE = Path(__file__).parents[2] / "plugin_example"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that holds the example, installed by pip without a network."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "warmth")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    wishes = ["--no-deps", "--no-build-isolation", "--target", str(folder), str(source)]
    subprocess.run([*command, *wishes], check=True, timeout=120)
    return folder


@pytest.fixture
def site(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(installed))
    return installed


def package(folder: Path, name: str, entry_points: str) -> None:
    """A package that brings these entry points and no code."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[flowgrpo.rewards]\n{entry_points}\n")


def test_an_installed_package_is_found_without_being_imported(site: Path) -> None:
    found = find_plugins()["warmth"]
    assert found == FoundPlugin("warmth", "warmth-reward 0.2.0", "warmth_reward:plugin")
    assert "warmth_reward" not in sys.modules


def test_a_plug_in_says_what_it_is_and_which_options_it_has(site: Path) -> None:
    described = describe(find_plugins()["warmth"])
    assert described.spec.title == "warm colours (example)"
    assert described.spec.needs == ()
    assert described.options["properties"]["gain"]["default"] == 1.0
    assert "warmth_reward" not in sys.modules


def test_a_plug_in_scores_with_its_options_in_a_process_of_its_own(
    site: Path, renders: tuple[Tensor, list[str]]
) -> None:
    images = renders[0][:4]
    plain, twice = (IsolatedReward(find_plugins()["warmth"], given) for given in ({}, {"gain": 2.0}))
    batch = ScoreBatch(images, renders[1][:4], [0] * 4)
    unit = images.double().div(255).mean(dim=(2, 3))
    torch.testing.assert_close(plain.score(batch).values, (unit[:, 0] - unit[:, 2]).float())
    torch.testing.assert_close(twice.score(batch).values, 2 * plain.score(batch).values)
    assert plain.spec.version.startswith("1/0.2.0/")
    assert plain.spec.version != twice.spec.version
    assert "warmth_reward" not in sys.modules
    plain.close()
    twice.close()


def test_a_version_changes_with_the_package_and_its_options() -> None:
    spec = RewardSpec("warmth", "t", "pointwise", 0.0, 1.0, "1", "Apache-2.0")
    old, new = (FoundPlugin("warmth", f"warmth-reward {v}", "w:plugin") for v in ("0.1", "0.2"))
    versions = {p.version_of(spec, o) for p in (old, new) for o in ({}, {"gain": 1.0}, {"gain": 2.0})}
    assert len(versions) == 6
    assert old.version_of(spec, {}) == "1/0.1"


def test_broken_packages_are_disabled_with_a_reason_and_the_others_work(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "a", "one", "twins = one:plugin\nclip = one:plugin\nnowhere = one.missing:plugin")
    package(tmp_path / "b", "two", "twins = two:plugin\nBad Name = two:plugin\nbent = just_a_module")
    for folder in ("a", "b"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    reasons = {name: plugin.reason for name, plugin in find_plugins(["clip", "verifier"]).items()}
    assert reasons == {
        "Bad Name": "a name has small letters, digits and _, a letter first, and 40 characters at most",
        "bent": "two 1.0 names just_a_module instead of package.module:attribute",
        "clip": "the studio has its own clip: one 1.0 must name its reward otherwise",
        "nowhere": None,
        "twins": "one 1.0 and two 1.0 both bring a reward twins: uninstall one of them",
        "warmth": None,
    }
