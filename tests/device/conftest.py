"""This machine's device, a GPU where there is one, and a base of each family for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowgrpo.runs.device import resolve
from tests.flowgrpo.test_precision import BASES

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DTYPES = [
    pytest.param(torch.float32, id="float32"),
    pytest.param(torch.bfloat16, id="bfloat16", marks=needs_gpu),
    pytest.param(torch.float16, id="float16", marks=needs_gpu),
]
"""Half precision is for GPUs: on a CPU it is slow, and test_precision.py has what must hold there."""


@pytest.fixture(scope="session")
def device() -> torch.device:
    return resolve("auto")


@pytest.fixture(scope="session", params=list(BASES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each family in turn."""
    return BASES[request.param](tmp_path_factory.mktemp("base") / "pipeline")


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASES["sdxl"](tmp_path_factory.mktemp("sdxl") / "pipeline")
