from __future__ import annotations

import io
import logging

import pytest

from storage.masking import MaskedStream, Masker, MaskingFormatter, is_secret_name, mask

ENVIRONMENT = {
    "HF_TOKEN": "hf_tokenThatIsLongEnough123",
    "MY_SECRET": "correct horse battery",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "OPENAI_API_KEY": "sk-abc.def+ghi",
    "DATABASE_URL": "postgresql+psycopg://studio:p%40ssw0rd!@db:5432/studio",
    "HTTPS_PROXY": "http://me:hunter2hunter2@proxy:3128",
    "PRIVATE_KEY": "-----BEGIN KEY-----\nabcdefghijkl\n-----END KEY-----",
    "SHORT_TOKEN": "1",
    "TOKENIZERS_PARALLELISM": "parallel",
    "HOME": "somewhere/else",
}
masker = Masker(ENVIRONMENT)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("got hf_tokenThatIsLongEnough123 here", "got *** here"),
        ("correct horse battery staple", "*** staple"),
        ("key=wJalrXUtnFEMI/K7MDENG;", "key=***;"),
        ("sk-abc.def+ghi", "***"),
        ("connect to postgresql+psycopg://studio:p%40ssw0rd!@db:5432/studio", "connect to postgresql+psycopg://studio:***@db:5432/studio"),
        ("the password p@ssw0rd! was refused", "the password *** was refused"),
        ("via http://me:hunter2hunter2@proxy:3128", "via http://me:***@proxy:3128"),
        ("line abcdefghijkl of a key", "line *** of a key"),
        ("another hf_AbCdEfGhIjKlMnOpQrSt", "another hf_***"),
        ("Authorization: Bearer abc.def.ghi", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic dXNlcjpwYXNz', 'x': 1}", "{'authorization': 'Basic ***', 'x': 1}"),
        ("sent bearer 0123456789abcdef0123", "sent bearer ***"),
    ],
)  # fmt: skip
def test_a_secret_is_masked_wherever_it_stands(text: str, masked: str) -> None:
    assert masker.mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "1 of 11 updates, parallel, somewhere/else",
        "hf_hub and hf_xet are libraries",
        "see https://huggingface.co/segmind/SSD-1B and http://127.0.0.1:7860",
        "step 3: reward 0.71, bearer of news",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert masker.mask(text) == text


def test_names_say_what_is_secret() -> None:
    secret = (
        "HF_TOKEN",
        "token",
        "DB_PASSWORD",
        "PGPASSWD",
        "API_KEY",
        "APIKEY",
        "SSH_KEY",
        "GOOGLE_CREDENTIALS",
    )
    plain = ("TOKENIZERS_PARALLELISM", "PATH", "KEYBOARD_LAYOUT", "HF_HOME", "MONKEYTYPE", "FLOWGRPO_HOME")
    assert all(map(is_secret_name, secret))
    assert not any(map(is_secret_name, plain))


def test_a_log_is_masked_with_its_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_TOKEN", "canary-of-the-test")
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(MaskingFormatter("%(message)s"))
    log = logging.Logger("masked")
    log.addHandler(handler)
    try:
        raise ValueError("refused canary-of-the-test")
    except ValueError:
        log.exception("it was %s", "canary-of-the-test")
    assert "canary-of-the-test" not in out.getvalue()
    assert "it was ***" in out.getvalue() and "ValueError: refused ***" in out.getvalue()
    print("canary-of-the-test", file=MaskedStream(out))
    assert "canary" not in mask(out.getvalue())
