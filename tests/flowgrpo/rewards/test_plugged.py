"""Rewards of others stand in the registry like the studio's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowgrpo.rewards import registry
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import load_stack
from tests.flowgrpo.rewards.test_plugins import installed, package, site
from tests.flowgrpo.rewards.test_remote import Scripted, server

__all__ = ["installed", "server", "site"]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))


@pytest.fixture
def batch(renders: tuple[Tensor, list[str]]) -> ScoreBatch:
    return ScoreBatch(renders[0][:4], renders[1][:4], [0] * 4)


def test_a_plug_in_scores_in_a_stack_beside_the_studios_own(
    site: Path, weights: Path, batch: ScoreBatch
) -> None:
    stack = load_stack(["warmth", "warmth:gain=3.0", "quality"], weights)
    assert stack.unavailable == {}
    results = stack.score(batch)
    assert list(results) == ["warmth", "warmth:gain=3.0", "quality"]
    torch.testing.assert_close(results["warmth:gain=3.0"].values, 3 * results["warmth"].values)
    assert len(set(stack.versions.values())) == 3
    stack.close()


def test_its_card_says_what_it_measures_and_that_it_is_there(site: Path, tmp_path: Path) -> None:
    assert "warmth" in registry.names()
    card = registry.card("warmth", Options(tmp_path))
    assert (card["title"], card["state"], card["needs"]) == ("warm colours (example)", "here", [])
    with pytest.raises(
        LookupError, match=r'"warmth" does not take "gain=99": the option gain must lie within'
    ):
        registry.about("warmth:gain=99")


def test_broken_plug_ins_are_shown_as_disabled_and_break_nothing(
    site: Path, weights: Path, batch: ScoreBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "one", "clip = one:plugin\nnowhere = one.missing:plugin")
    monkeypatch.syspath_prepend(str(tmp_path))
    cards = {name: registry.card(name, Options(weights)) for name in registry.names()}
    assert cards["clip"]["title"] == "tiny CLIP (embedded)"
    disabled = {name: card["weights"] for name, card in cards.items() if card["direction"] == "disabled"}
    assert disabled == {
        "clip@one 1.0": "disabled: the studio has its own clip: one 1.0 must name its reward otherwise",
        "nowhere": "disabled: one 1.0 could not load nowhere: ModuleNotFoundError: No module named 'one'",
    }
    assert cards["nowhere"].keys() == cards["clip"].keys()
    stack = load_stack(["nowhere", "quality"], weights)
    results = stack.score(batch)
    assert results["quality"].values.isfinite().all()
    assert set(results["nowhere"].reasons) == {
        "one 1.0 could not load nowhere: ModuleNotFoundError: No module named 'one'"
    }


def test_a_remote_reward_bears_its_address_in_its_name(
    server: Scripted, weights: Path, batch: ScoreBatch
) -> None:
    name = f"remote:{server.url}"
    stack = load_stack([name], weights)
    assert stack.score(batch)[name].values.tolist() == [1.0] * 4
    assert registry.about(name).title == f"remote reward at {server.url}"
    with pytest.raises(LookupError, match="cannot ask"):
        registry.about("remote:file:///etc/passwd")


def test_a_remote_reward_without_an_address_says_what_it_needs(weights: Path) -> None:
    assert registry.card("remote", Options(weights))["weights"] == (
        "unavailable: it needs an address behind a colon, such as remote:http://127.0.0.1:8765"
    )
    assert "it needs an address" in load_stack(["remote"], weights).unavailable["remote"]


def test_a_plug_in_that_wants_an_option_set_has_a_card_that_says_so(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "keyed", "keyed = keyed:plugin")
    (tmp_path / "keyed.py").write_text(
        "from flowgrpo.rewards.base import RewardSpec\n"
        "from flowgrpo.rewards.plugins import Plugin\n"
        'OPTIONS = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}\n'
        'SPEC = RewardSpec("keyed", "keyed", "pointwise", 0.0, 1.0, "1", "MIT", notice="Yours alone.")\n'
        "plugin = Plugin(SPEC, lambda options, device: None, OPTIONS)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    bare, keyed = (registry.card(name, Options(weights)) for name in ("keyed", "keyed:key=a"))
    assert bare["weights"] == "unavailable: the option key is not set"
    assert keyed["state"] == "here" and not keyed["accepted"]
    accepted = Options(weights, accepted={"keyed": registry.about("keyed").notice_sha256})
    assert registry.card("keyed:key=b", accepted)["accepted"]
