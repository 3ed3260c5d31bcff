"""A run's file is read as it was meant, and refused with its line where it cannot be meant."""

from __future__ import annotations

import json

import pytest
import yaml

from flowgrpo.config import RunConfig
from flowgrpo.config_file import parse, written

ODD_WORDS = (
    "no", "Yes", "on", "~", "null", "1e-4", "0x10", "1:30", "2024-01-01", "1_000", "12", ".5", "=", "<<",
    "- a", "a: b", "# x", "a #b", "'q'", '"q"', "*a", "&b", "!t", "%x", "@y", "{a}", "[b]", "a\tb", "é 雪",
    "😀", "a\u2028b",
    "multi\nline", "\\n", "?", "--- x", ".inf", "9" * 500, "word " * 300 + "x",
)  # fmt: skip
LEAST = "prompts: [a]\nreward_weights: {clip: 1}\n"


def test_what_is_written_is_read_back_the_same_by_us_and_by_any_reader_of_yaml() -> None:
    config = RunConfig(prompts=ODD_WORDS, reward_weights={"clip": 1e-05, "no": 0.3, "1e-4": -2.0})
    text = written(config, {"torch": "2.9", "threads": 2, "earlier": [{"a": None}]}, "Run\x071\nrepeat it")
    read = parse(text, "config.yaml")
    assert read.config == config
    assert read.made_with == {"torch": "2.9", "threads": 2, "earlier": [{"a": None}]}
    told = yaml.safe_load(text)
    assert told.pop("made_with")
    assert told == config.model_dump(mode="json")
    assert text.startswith("# Run 1\n# repeat it\nmade_with:\n")


def test_every_setting_stands_in_the_file_those_at_their_defaults_too() -> None:
    told = yaml.safe_load(written(RunConfig(prompts=("a",), reward_weights={"clip": 1.0}), {}))
    assert told.keys() == RunConfig.model_fields.keys()
    assert told["update"]["learning_rate"] == 1e-3


def test_json_is_read_by_the_same_door() -> None:
    config = RunConfig(prompts=("a", "😀"), reward_weights={"clip": 1.0})
    assert parse(json.dumps(config.model_dump(mode="json"), indent="\t"), "run.json").config == config


def test_numbers_and_words_are_what_a_person_means_by_them() -> None:
    text = (
        LEAST.replace("[a]", "[no, on]")
        + "update: {learning_rate: 1e-4, gradient_checkpointing: no}\nseed: 010"
    )
    config = parse(text, "run.yaml").config
    assert config.prompts == ("no", "on")
    assert (config.update.learning_rate, config.update.gradient_checkpointing, config.seed) == (
        1e-4,
        False,
        10,
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LEAST + "seed: 1\nseed: 2", "line 4: seed stands there twice, first in line 3"),
        ('{"seed": 1, "seed": 2}', "seed stands there twice"),
        (LEAST + "rollout:\n  num_steps: many", "line 4: rollout.num_steps: Input should be a valid integer"),
        (
            LEAST + "update:\n  learning_rte: 1",
            "line 4: there is no setting update.learning_rte, did you mean",
        ),
        (LEAST + "algorithm:\n  name: sft\n  foo: 1", "line 3: algorithm.sft.folder: Field required"),
        (
            LEAST.replace("a]", "a, 123]"),
            "line 1: prompts.1: Input should be a valid string, got 123 (a text that",
        ),
        (LEAST + "seed: [1\nb", "is no YAML"),
        ("\tprompts: [a]", "line 1 is no YAML"),
        ('{"prompts": [}', "line 1 is no JSON"),
        (LEAST + "lora: &a {rank: 2}\nupdate: *a", "used again by an alias"),
        (LEAST + "seed: !!python/object/apply:os.getpid []", "has a tag"),
        ("a: 1\n---\nb: 2", "another document"),
        (LEAST + "seed: .nan", "seed: Input should be a finite number"),
        ("", "got nothing"),
        ("- a", "got list"),
        ("[" * 100_000, "is no YAML"),
        ("{" * 100_000, "is no JSON"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_line_and_setting(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^run\.yaml is not a run: ") as refused:
        parse(text, "run.yaml")
    assert sentence in str(refused.value)
