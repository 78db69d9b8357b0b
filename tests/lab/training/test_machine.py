from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.machine import build_accelerator, environment


def test_runs_of_one_process_may_differ_in_precision(tiny):
    kinds = [build_accelerator(tiny(precision=p)).mixed_precision for p in ("float32", "bf16", "float32")]
    assert kinds == ["no", "bf16", "no"]


def test_the_recipe_sets_the_number_of_threads(tiny):
    before = torch.get_num_threads()
    try:
        build_accelerator(tiny(threads=2))
        assert torch.get_num_threads() == 2
        build_accelerator(tiny(threads=None))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU does fp16")
def test_fp16_without_an_accelerator_is_refused_with_the_remedy(tiny):
    with pytest.raises(RecipeError, match="there is none: set precision to 'bf16'"):
        build_accelerator(tiny(precision="fp16", device="auto"))


def test_a_batch_that_processes_cannot_share_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(RecipeError, match=r"batch_size 32 cannot be shared equally by 3 processes .* multiple of 6"):
        build_accelerator(tiny(accumulate=2))


def test_the_environment_tells_versions_and_threads_and_no_names():
    assert environment().keys() == {
        "sttp_riemann", "python", "torch", "geoopt", "system", "processors", "threads", "accelerator"
    }  # fmt: skip
