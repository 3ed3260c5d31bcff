"""What was scored or embedded once is found again, by pixels, prompt and version, and by nothing less."""

from __future__ import annotations

from storage import scores
from storage.engine import Database
from storage.scores import ScoreKey

FIRST, SECOND = ScoreKey("a" * 64, "p" * 64), ScoreKey("b" * 64, "p" * 64)


def test_a_cached_value_comes_back_to_the_last_bit_and_a_reason_as_a_reason(db: Database) -> None:
    values = {FIRST: (0.1 + 0.2, None), SECOND: (None, "nothing was asked")}
    scores.cache_scores(db, "clip", "v1", values)
    assert scores.cached_scores(db, "clip", "v1", [FIRST, SECOND]) == values


def test_another_prompt_version_or_reward_is_not_that_value(db: Database) -> None:
    scores.cache_scores(db, "clip", "v1", {FIRST: (1.0, None)})
    other_prompt = ScoreKey(FIRST.image_sha256, "q" * 64)
    assert scores.cached_scores(db, "clip", "v1", [other_prompt, SECOND]) == {}
    assert scores.cached_scores(db, "clip", "v2", [FIRST]) == {}
    assert scores.cached_scores(db, "quality", "v1", [FIRST]) == {}


def test_more_keys_than_one_statement_holds_are_found(db: Database) -> None:
    many = {ScoreKey(f"{n:064x}", "p" * 64): (float(n), None) for n in range(1_203)}
    scores.cache_scores(db, "clip", "v1", many)
    assert scores.cached_scores(db, "clip", "v1", list(many)) == many


def test_embeddings_are_kept_by_encoder(db: Database) -> None:
    scores.cache_embeddings(db, "clip one", {"a" * 64: b"\x00\x01"})
    assert scores.cached_embeddings(db, "clip one", ["a" * 64, "b" * 64]) == {"a" * 64: b"\x00\x01"}
    assert scores.cached_embeddings(db, "clip two", ["a" * 64]) == {}


def test_published_cards_replace_those_before(db: Database) -> None:
    scores.publish_cards(db, {"clip": {"title": "CLIP"}, "old": {"title": "gone"}})
    scores.publish_cards(db, {"clip": {"title": "CLIP again"}, "ocr": {"title": "OCR"}})
    assert scores.reward_cards(db) == {"clip": {"title": "CLIP again"}, "ocr": {"title": "OCR"}}
