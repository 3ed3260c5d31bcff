"""A line of the log is one line, whoever wrote what is in it, and nothing that opens doors is in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from storage.masking import mask
from ui.logs import JsonLines, PlainLines, one_line, request_id, set_up


@pytest.fixture
def _log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level


def record(message: str, *values: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("ui.some", logging.WARNING, "some.py", 1, message, values, info)


def raised(words: str) -> BaseException:
    try:
        raise ValueError(words)
    except ValueError as error:
        return error


FORGED = "red hair\r\nERROR root: the disk is gone\x1b[2J\u2028\0"


def test_nobody_writes_a_line_of_their_own() -> None:
    plain = PlainLines().format(record("drew %s", FORGED))
    assert plain == "WARNING ui.some: drew red hair\\r\\nERROR root: the disk is gone\\x1b[2J\\u2028\\x00"
    line = JsonLines().format(record("drew %s", FORGED))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == plain.partition(": ")[2]


def test_the_lines_of_an_error_stand_behind_a_mark() -> None:
    told = PlainLines().format(record("no luck", error=raised(FORGED))).splitlines()
    assert told[0] == "WARNING ui.some: no luck"
    assert all(line.startswith("  | ") for line in told[1:])
    assert "  | ERROR root: the disk is gone\\x1b[2J" in told
    said = json.loads(JsonLines().format(record("no luck", error=raised("odd"))))
    assert said["error"].endswith("ValueError: odd")


def test_an_object_says_when_who_what_and_for_which_request() -> None:
    with request_id() as given:
        said = json.loads(JsonLines().format(record("%d of %d", 3, 4)))
        assert f"[{given}]" in PlainLines().format(record("a"))
    assert (said["level"], said["logger"], said["message"]) == ("WARNING", "ui.some", "3 of 4")
    assert said["request_id"] == given
    assert said["time"].endswith("+00:00")
    assert json.loads(JsonLines().format(record("a")))["request_id"] is None
    odd = json.loads(JsonLines().format(record("half a letter: %s", "\udc80")))
    assert odd["message"] == "half a letter: \\udc80"


@pytest.mark.parametrize(
    "words",
    [
        "hf_abcdefghijklmnopqrstuvwx", "postgresql://ann:s3cret@host/db", "Authorization: Bearer abc.def",
        "Cookie: session=abcdef", "password=hunter2", '{"token": "abcdef"}', "it is the-value-of-ours here",
    ],
)  # fmt: skip
def test_what_opens_doors_is_blacked_out(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "the-value-of-ours")
    black = mask(words)
    assert "***" in black
    for secret in ("abcdef", "s3cret", "abc.def", "hunter2", "the-value-of-ours"):
        assert secret not in black


def test_words_about_tokens_are_left_as_they_are() -> None:
    words = "the token of 3 prompts was cut, and 77 tokens are read"
    assert mask(words) == words
    assert one_line("赤い髪, très\u00a0bien") == "赤い髪, très\\xa0bien"


@pytest.mark.usefixtures("_log_as_it_was")
def test_the_form_is_asked_for_or_stands_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOWGRPO_LOG", "json")
    set_up()
    logging.getLogger("elsewhere").warning("a\nb")
    assert json.loads(capsys.readouterr().err)["message"] == "a\\nb"
    set_up("plain")
    logging.getLogger("ui").warning("odd")
    assert capsys.readouterr().err == "WARNING ui: odd\n"
    with pytest.raises(ValueError, match="a log is plain or json, not 'xml'"):
        set_up("xml")
