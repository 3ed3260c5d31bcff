from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from flowgrpo.rewards import registry
from flowgrpo.rewards.base import RewardSpec, ScoreBatch, scored
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.entry import Entry
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import EMBEDDED, load_stack
from flowgrpo.rewards.stock import STOCK
from tests.given import Given
from tests.repository.tree import ROOT

OPTIONED = [
    "clip:ViT-L-14-quickgelu/openai", "clip:ViT-B-16-SigLIP2-256/webli", "lpips_ref:vgg", "diversity:clip",
    "diversity:ViT-L-14-quickgelu/openai",
]  # fmt: skip
NAMES = [*registry.REGISTRY, *OPTIONED]


@pytest.fixture
def options(weights: Path, tmp_path: Path) -> Options:
    return Options(weights, cache=tmp_path, offline=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_a_row_for_the_web_and_says_all_that_a_page_shows(name: str, options: Options) -> None:
    card = json.loads(json.dumps(registry.card(name, options)))
    assert card["name"] == name
    assert card["title"] and card["measures"] and card["licence"]
    assert card["low"] < card["high"]
    assert card["state"] in ("here", "unavailable")
    assert (card["state"] == "here") == (card["weights"] == "here")
    assert card["embedded"] == ("embedded" in card["title"])
    assert (card["threshold"] is not None) == (card["kind"] == "gate")


@pytest.mark.parametrize("name", NAMES)
def test_a_card_and_the_loading_agree_on_whether_the_weights_are_here(name: str, options: Options) -> None:
    card = registry.card(name, options)
    stack = load_stack([name], options.weights, options=options)
    assert (card["state"] == "here") == (name in stack.rewards)
    for reward in stack.rewards.values():
        assert reward.spec.version and reward.spec.name == name
        assert registry.about(name).title == reward.spec.title


def test_what_is_missing_is_named_with_size_and_licence(options: Options) -> None:
    sentence = registry.card("aesthetic", options)["weights"]
    assert sentence == (
        "unavailable: needs the head of LAION aesthetic V2 (3.7 MB, Apache-2.0) and "
        "CLIP ViT-L-14-quickgelu/openai (1711 MB, MIT)"
    )


def test_online_a_card_says_what_the_first_use_costs(weights: Path, tmp_path: Path) -> None:
    online = Options(weights, cache=tmp_path, offline=False)
    assert registry.card("hpsv21", online)["weights"] == "fetched on first use: 1972 MB"
    empty = Options(tmp_path, cache=tmp_path, offline=False)
    assert str(registry.card("quality", empty)["weights"]).startswith("unavailable: needs the quality head")


def test_a_library_that_is_not_installed_is_named(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rapidocr", raising=False)
    monkeypatch.setattr("flowgrpo.rewards.registry.find_spec", lambda _: None)
    assert registry.card("ocr", options)["weights"] == (
        "unavailable: needs the package rapidocr and onnxruntime"
    )


def test_nothing_of_a_reward_is_imported_before_it_is_loaded() -> None:
    entries = [entry.load for entry in STOCK.values()]
    assert all(isinstance(load, str) for load in entries)


def test_an_option_that_a_reward_does_not_take_is_refused(options: Options) -> None:
    with pytest.raises(LookupError, match='"ocr" takes no option, and "fast" was asked for'):
        load_stack(["ocr:fast"], options.weights)


def test_a_plug_in_adds_a_reward_and_nobody_takes_a_name_twice(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))
    spec = RewardSpec("brightness", "Brightness", "pointwise", 0.0, 1.0, "1", "MIT", "how bright it is")
    given = Given(lambda batch: scored(batch.images.float().flatten(1).mean(1) / 255), "brightness")
    entry = Entry(lambda name, option: spec, lambda card, option, options: given)
    registry.add("brightness", entry)
    batch = ScoreBatch(torch.full((1, 3, 4, 4), 255, dtype=torch.uint8), ["a"], [0])
    stack = load_stack(["brightness"], options.weights)
    assert stack.score(batch)["brightness"].values.tolist() == [1.0]
    assert registry.card("brightness", options)["weights"] == "here"
    for taken in ("brightness", "clip", "judge", "Not a name"):
        with pytest.raises(ValueError, match=r"is taken|of small letters"):
            registry.add(taken, entry)


def test_every_reward_has_a_card_and_every_card_a_reward() -> None:
    assert set(CARDS) == set(STOCK) <= set(registry.REGISTRY)
    assert set(EMBEDDED) <= set(CARDS)


def test_only_a_reward_with_a_notice_waits_for_somebody_to_accept_it(options: Options) -> None:
    waiting = [name for name in registry.REGISTRY if not registry.card(name, options)["accepted"]]
    assert waiting == ["pickscore"]


def test_the_page_of_rewards_has_the_registrys_table() -> None:
    """When it differs: put what `flowgrpo.rewards.registry.table()` returns between the page's two marks."""
    page = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("<!-- cards -->\n")
    assert rest.partition("\n<!-- end of cards -->")[0] == registry.table()
