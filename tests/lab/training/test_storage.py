from __future__ import annotations

from sttp_riemann.lab.training.checkpoint import Checkpoint, save_checkpoint
from sttp_riemann.lab.training.storage import BEST, checkpoints, save_and_prune


def steps(folder):
    return [int(path.stem.removeprefix("checkpoint-")) for path in checkpoints(folder)]


def test_only_the_last_checkpoints_are_kept_oldest_first(tmp_path):
    for step in (5, 10, 99, 1000):
        save_and_prune(tmp_path, step, Checkpoint(), keep=2)
    assert steps(tmp_path) == [99, 1000]


def test_the_best_is_kept_beside_them_and_is_not_gone_on_from(tmp_path):
    save_checkpoint(tmp_path / BEST, Checkpoint())
    save_and_prune(tmp_path, 1, Checkpoint(), keep=1)
    assert steps(tmp_path) == [1]
    assert (tmp_path / BEST).exists()


def test_other_files_are_no_checkpoints(tmp_path):
    for name in ("checkpoint-copy.safetensors", ".checkpoint-000000001.safetensors.partial", "result.json"):
        (tmp_path / name).touch()
    assert checkpoints(tmp_path) == []


def test_a_missing_folder_has_no_checkpoints(tmp_path):
    assert checkpoints(tmp_path / "none") == []
