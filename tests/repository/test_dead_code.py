"""No code without a use: what nothing but a test names is dead, and so is what nothing names."""

from __future__ import annotations

import re
from functools import cache

import vulture

from tests.repository import tree

CALLED_BY_OTHERS = [
    "@*.get",
    "@*.post",
    "@*.put",
    "@*.delete",
    "@*.command",
    "@*.callback",
    "@model_validator",
]
CALLED_BY_OTHERS += ["@field_validator", "@event.listens_for", "@overload", "@*.task"]
"""A decorator hands the function to a framework, which calls it."""

KEPT = {
    # what a framework reads
    *(
        "model_config",
        "type_annotation_map",
        "impl",
        "cache_ok",
        "process_bind_param",
        "process_result_value",
    ),
    *("redirect_request", "isolation_level", "autocommit", "justify", "HF_HUB_OFFLINE"),
    # what TRL's trainer reads: benchmarks/peers/sdxl_for_trl.py
    *("autocast", "get_trainable_layers", "use_lora"),
    # named in text: flowgrpo/rewards/stock.py
    *("load_diversity", "load_reference"),
    # kept as JSON by its class's asdict(), and read from there by name
    *("median_lead_ms", "num_skips", "why_no_alpha"),
    # a cache's key
    "minute",
    # columns that are written for whoever looks into the database
    *("changed_by", "updated_at"),
    # used by migrations, which are not looked at here
    "rebuilds",
    # how tests look at what was kept, and where
    *(
        "evaluations_of",
        "evaluations_of_job",
        "exports_of",
        "card_url",
        "file_url",
        "EXPORT_FILE",
        "PRESETS",
    ),
    # the inverses of what is used, to which tests hold it
    *("to_rf", "prediction_from"),
}


@cache
def unused() -> dict[str, str]:
    """Place and kind of what no code, template or script of the product names, by its name."""
    checker = vulture.Vulture(ignore_decorators=CALLED_BY_OTHERS)
    paths = [*tree.code(), *tree.under("benchmarks", "tools", suffix=".py")]
    checker.scavenge([str(path) for path in paths if "migrations" not in path.parts])
    assets = [path for suffix in (".html", ".js") for path in tree.under("ui", suffix=suffix)]
    named = {word for path in assets for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    return {
        item.name: f"{tree.relative(item.filename)}:{item.first_lineno} ({item.typ})"
        for item in checker.get_unused_code()
        if item.name not in named
    }


def test_nothing_is_there_that_nothing_uses() -> None:
    assert {name: place for name, place in unused().items() if name not in KEPT} == {}


def test_what_is_kept_without_a_use_is_there_and_without_one() -> None:
    assert KEPT - set(unused()) == set()
