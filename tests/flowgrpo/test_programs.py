"""What loads an export elsewhere is said for every base that a row can name."""

from __future__ import annotations

import diffusers
import pytest

from flowgrpo import programs


@pytest.mark.parametrize(("family", "pipeline"), programs.PIPELINES.items())
def test_a_base_that_is_named_by_its_pipeline_is_loaded_as_one_named_by_its_family(
    family: str, pipeline: str
) -> None:
    for source in ("somewhere/pipeline", "somewhere/base.safetensors"):
        by_class = programs.lines(pipeline, source, "a.safetensors")
        assert by_class == programs.lines(family, source, "a.safetensors")
        assert hasattr(diffusers, pipeline)
    assert programs.programs_of(pipeline) == programs.programs_of(family)
    assert programs.readers_of(pipeline, "kohya") == programs.readers_of(family, "kohya")
    assert programs.merged_lines(pipeline, "whole") == programs.merged_lines(family, "whole")


def test_a_base_of_no_family_of_ours_is_opened_by_what_finds_out_itself() -> None:
    assert (
        programs.lines("unknown", "base", "a.safetensors")[1]
        == 'pipe = DiffusionPipeline.from_pretrained("base")'
    )
