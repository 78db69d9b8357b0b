"""A GAN that is stopped at any step and resumed ends with the bits of one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sttp_riemann.lab.training.checkpoint import load_checkpoint
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.storage import checkpoints

METRICS = {
    "metrics": ["is", "fid", "kid", "prc"],
    "extractor": "digits",
    "metric_samples": 64,
    "kid_subset_size": 32,
}
VARIANTS = {
    "dense": {"method": "dense"},
    "sn": {"method": "sn", "ema": 0.9, **METRICS},
    "sr": {"method": "sr", "conditional": True},
    "sttp-riemannian": {"method": "sttp", "gauge_fix_every": 3, "ema": 0.9, "generator_method": "follow"},
    "svdp-householder": {
        "method": "svdp",
        "frames": "householder",
        "spectrum": "learned",
        "penalty": "d_optimal",
        "accumulate": 2,
        "gan_loss": "non_saturating",
    },
}
# Evaluated after every second step: runs stop before, after and between evaluations
STEPS = 4


class StoppedError(Exception):
    """What stands for a killed process."""


def run(recipe, folder: Path, stop: int | None = None) -> None:
    trainer = Trainer(recipe, folder)
    step = trainer._step

    def stopping():
        if trainer.progress.step == stop:
            raise StoppedError
        step()

    trainer._step = stopping
    trainer.run()


def final(folder: Path):
    checkpoint = load_checkpoint(checkpoints(folder)[-1])
    records = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.glob("*/*"))}
    return checkpoint.tensors, checkpoint.values["progress"]["history"], records


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_gan_has_the_same_bits(variant, tiny_gan, tmp_path, digits_cache):
    recipe = tiny_gan(**VARIANTS[variant], steps=STEPS, evaluate_every=2)
    run(recipe, tmp_path / "whole")
    tensors, history, records = final(tmp_path / "whole")
    assert len(records) == 3 * STEPS // 2
    for stop in range(1, STEPS):
        folder = tmp_path / str(stop)
        with pytest.raises(StoppedError):
            run(recipe, folder, stop)
        run(recipe, folder)
        others, other_history, other_records = final(folder)
        assert tensors.keys() == others.keys()
        assert [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])] == []
        assert history == other_history
        assert records == other_records
