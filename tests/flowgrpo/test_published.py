"""The published architectures, without their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flowgrpo import lora
from flowgrpo.config import LoraConfig
from flowgrpo.published import architecture, architecture_of, known

PARAMETERS = {
    "sd15": 859_520_964, "sdxl": 2_567_463_684, "ssd-1b": 1_331_334_404, "sd3.5-medium": 2_243_171_520,
    "flux.1-dev": 11_901_408_320,
}  # fmt: skip
"""As published, or what the published configuration gives: SDXL's and FLUX.1's are their papers' 2.6 and 12
billion, SSD-1B's its 1.3; SD3.5's 2.5 counts the 226 million fixed position embeddings too.
"""

ADAPTED = {"sd15": 236, "sdxl": 756, "ssd-1b": 392, "sd3.5-medium": 191, "flux.1-dev": 266}
"""Modules that learn where nobody names any. FLUX.1: 8 in each of 19 double blocks, 3 in each of 38 single
ones. SD 1.5: 8 projections of attention, 2 around and 2 between them in each of 16 blocks, 2 convolutions in
each of 22.
"""


@pytest.mark.parametrize("name", known())
def test_a_published_base_has_its_number_of_parameters(name: str) -> None:
    network = architecture(name).build_network()
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", known())
def test_an_adapter_hits_its_modules_where_nobody_names_any(name: str) -> None:
    base = architecture(name)
    network = base.build_network()
    lora.attach(network, LoraConfig(rank=4, targets=base.default_targets), seed=0)
    assert len({key.rpartition(".lora_")[0] for key in lora.parameters(network)}) == ADAPTED[name]


def test_what_is_no_base_is_told_what_is() -> None:
    with pytest.raises(LookupError, match=r"published base of that name.*flux\.1-dev, sd15"):
        architecture("nowhere")


def test_a_base_is_known_by_its_folder_or_by_what_a_file_is_like(tiny_folder: Path, tmp_path: Path) -> None:
    assert architecture_of(str(tiny_folder)) == architecture(tiny_folder)
    file = tmp_path / "painter.safetensors"
    save_file({"conditioner.embedders.1.model.positional_embedding": torch.zeros(1)}, file)
    assert architecture_of(str(file), str(tiny_folder)) == architecture(tiny_folder)
    with pytest.raises(LookupError, match=r"does not tell how it is built: add it with --config"):
        architecture_of(str(file))
