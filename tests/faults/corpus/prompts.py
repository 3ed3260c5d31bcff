"""Lists of prompts that are none, or have what no prompt has: the text of a form, and its file's name."""

from __future__ import annotations

from typing import Any

from tests.faults.corpus.cases import Case, given

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"text": ""}, "has no prompts"),
    "blanks alone": ({"text": " \n\t\n"}, "has no prompts"),
    "remarks alone": ({"text": "# a\n# b"}, "has no prompts"),
    "1,000,000 prompts": ({"text": "".join(f"{number}\n" for number in range(1_000_000))}, "divide it"),
    "a prompt of 500,000 letters": ({"text": "a" * 500_000}, "shorten it"),
    "a prompt of 10,000 marks": ({"text": "a" + "\u0301" * 10_000}, "shorten it"),
    "NUL": ({"text": "red\0hair"}, "control characters"),
    "half a letter": ({"text": "red \ud800 hair"}, "."),
    "a program": ({"text": "\x7fELF\x02\x01\x01" + "\0" * 99}, "control characters"),
    "a number": ({"text": 5}, "has no prompts"),
    "a list for a text": ({"text": ["a", "b"]}, "has no prompts"),
    "a table without prompts": ({"text": "a,b\n1,2", "file": "a.csv"}, "must be called prompt"),
    "a table of no lines": ({"text": "\n\n", "file": "a.csv"}, "."),
    "a cell of 200,000 letters": ({"text": 'prompt\n"' + "a" * 200_000 + '"', "file": "a.csv"}, "table"),
    "a quote that never ends": ({"text": 'prompt\n"' + "a\n" * 70_000, "file": "a.csv"}, "."),
    "an unknown split": ({"text": "prompt,split\na,b", "file": "a.csv"}, "write train or held_out"),
    "no JSON": ({"text": "{a: 1}", "file": "a.jsonl"}, "is no JSON"),
    "JSON 100,000 deep": ({"text": '{"prompt":' + "[" * 100_000, "file": "a.jsonl"}, "is no JSON"),
    "JSON with NaN": ({"text": '{"prompt": "a", "w": NaN}', "file": "a.jsonl"}, "is no JSON"),
    "JSON that is a list": ({"text": '["a"]', "file": "a.jsonl"}, "has no prompt"),
    "JSON with a number for a prompt": ({"text": '{"prompt": 5}', "file": "a.jsonl"}, "has no prompt"),
    "a number of 5,000 digits": (
        {"text": '{"prompt": "a", "n": ' + "9" * 5_000 + "}", "file": "a.jsonl"}, "is no JSON"
    ),
    "half a letter in JSON": ({"text": '{"prompt": "a \\ud800"}', "file": "a.jsonl"}, "."),
    "half a letter beside a prompt": (
        {"text": '{"prompt": "a", "b": "\\ud800"}', "file": "a.jsonl"}, "."
    ),
    "all held out": ({"text": '{"prompt": "a", "split": "test"}', "file": "a.jsonl", "by": "list"}, "out"),
    "a share of 5,000 percent": ({"text": "a\nb", "share": "5000"}, "held-out share"),
    "no name": ({"text": "a", "name": " "}, "has no name"),
    "a name of 5,000 letters": ({"text": "a", "name": "a" * 5_000}, "shorten it"),
}  # fmt: skip
KEPT: dict[str, dict[str, Any]] = {
    "HTML and templates": {"text": "<img src=x onerror=alert(1)>\n{{7*7}}\n${alert(1)}\n=HYPERLINK(1)"},
    "letters read backwards": {"text": "red \u202e hair"},
    "a name of HTML": {"text": "a\nb", "name": "<script>alert(1)</script>"},
    "a name of a path": {"text": "a\nb", "name": "../../etc/passwd"},
}
CASES = (
    *(Case(f"prompts: {name}", "prompts", given(fields), words) for name, (fields, words) in REFUSED.items()),
    *(Case(f"prompts: {name}", "prompts", given(one), "", is_taken=True) for name, one in KEPT.items()),
)
