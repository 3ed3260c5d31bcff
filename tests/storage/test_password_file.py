"""The password of a server may stand in a file: then it is in no environment, and is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import postgres
from storage.engine import open_database

ADDRESS = "postgresql://studio@127.0.0.1:5432/studio"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("p@ss:/word%41\nnot this line\n")
    return path


def test_the_first_line_of_the_file_is_the_password(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.address_of(f"{ADDRESS}?connect_timeout=3&password_file={secret}")
    assert url is not None
    assert (url.password, dict(url.query)) == ("p@ss:/word%41", {"connect_timeout": "3"})
    assert "word" not in repr(url)

    monkeypatch.setenv(postgres.URL_VARIABLE, f"{ADDRESS}?password_file={secret}")
    assert postgres.libpq_address() == "postgresql://studio:p%40ss%3A%2Fword%2541@127.0.0.1:5432/studio"


def test_whether_a_server_is_asked_for_is_known_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(postgres.URL_VARIABLE, f"{ADDRESS}?password_file=/nowhere")
    assert postgres.is_asked_for()


def test_a_file_that_cannot_be_read_or_is_empty_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for path, sentence in ((tmp_path / "none", "cannot be read"), (empty, "first line of .* is empty")):
        with pytest.raises(ValueError, match=sentence) as told:
            open_database(tmp_path / "home", f"{ADDRESS}?password_file={path}")
        assert str(path) in str(told.value)
