from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from flowgrpo.starter import degrade, verifier_training, verifiers
from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.dataset import Portraits
from flowgrpo.starter.training import Plan


@pytest.mark.parametrize("name", verifiers.ARCHITECTURES)
def test_a_saved_verifier_reads_as_it_did(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = verifiers.ARCHITECTURES[name]().eval()
    verifiers.save_verifier(model, tmp_path)
    images = torch.rand(5, 3, 64, 64) * 2 - 1
    before, after = (
        verifiers.predict(model, images),
        verifiers.predict(verifiers.load_verifier(tmp_path), images),
    )
    assert [p.shape for p in before] == [(5, len(slot.labels) + 1) for slot in v.SLOTS]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(one.sum(1), torch.ones(5))


def test_a_verifier_of_another_vocabulary_is_refused_with_a_sentence(tmp_path: Path) -> None:
    verifiers.save_verifier(verifiers.Judge(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["slots"]["mouth"] = ["grin"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="other slots than the vocabulary"):
        verifiers.load_verifier(tmp_path)


def test_a_reading_that_is_sure_of_something_else_is_left_out_and_an_unsure_one_is_unclear() -> None:
    class Sure(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            hot = [F.one_hot(torch.tensor([0, 1]), classes).float() for classes in verifiers.CLASSES]
            return [20 * h if i == 0 else 0 * h for i, h in enumerate(hot)]

    asked = torch.zeros(2, len(v.SLOTS), dtype=torch.int64)
    generated = verifier_training.Generated(torch.zeros(2, 3, 64, 64), asked)
    targets, weight = verifier_training.reading_targets(Sure(), generated)
    assert weight[:, 0].tolist() == [1, 0]  # read as asked; read as another with confidence
    assert targets[0][0].argmax() == 0
    assert weight[:, 1].tolist() == [1, 1]
    assert targets[1].argmax(1).tolist() == [verifiers.CLASSES[1] - 1] * 2  # no reading: unclear


def test_degradations_keep_the_shape_and_do_nothing_at_their_mildest() -> None:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(degrade.warp(x, 0.0, g), x, atol=1e-4, rtol=0)
    torch.testing.assert_close(degrade.ghost(x, x.flip(0), 0.0), x)
    assert degrade.blur(x, 2.0).std() < 0.5 * x.std()
    torch.testing.assert_close(degrade.shuffle(x, 16, g).sort().values.sum(), x.sum(), atol=1e-2, rtol=0)
    assert degrade.jitter(x, g).shape == x.shape


def test_the_doubt_about_small_parts_comes_before_the_doubt_about_colours() -> None:
    doubt = dict(
        zip(
            (s.name for s in v.SLOTS),
            verifier_training._doubt((1.0, 2.0), (3.0, 6.0), (5.0, 9.0), 2.0),
            strict=True,
        )
    )
    assert doubt["mouth"] == doubt["eyewear"] == 1.0
    assert doubt["hair style"] == doubt["background"] == 0.0


def test_a_verifier_learns_from_spoilt_renders_and_then_from_generated_images(tmp_path: Path) -> None:
    data = Portraits(
        torch.randint(0, 256, (16, 3, 64, 64), dtype=torch.uint8),
        [],
        torch.zeros(16, len(v.SLOTS), dtype=torch.int64),
    )
    torch.manual_seed(0)
    model = verifiers.Verifier(width=4)
    plan = Plan(steps=2, learning_rate=1e-3)
    first = list(verifier_training.train(model, data, range(16), plan, tmp_path / "1.pt"))
    generated = verifier_training.Generated(torch.rand(8, 3, 64, 64) * 2 - 1, data.labels[:8])
    second = list(verifier_training.train(model, data, range(16), plan, tmp_path / "2.pt", generated))
    assert first[-1].step == second[-1].step == 2
    assert 0 <= second[-1].terms["_right"] <= 1
