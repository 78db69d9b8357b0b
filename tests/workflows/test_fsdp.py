"""Two processes: broadcast, shared memory, DistributedDataParallel and fully_shard."""

from __future__ import annotations

import pytest
import torch

from tests.workflows.common import PATHS, inputs, meant
from tests.workflows.conftest import Ended
from tests.workflows.two_processes import learn, made

SHARDED = pytest.mark.parametrize("where", ["layer", "root"])
KINDS = pytest.mark.parametrize("kind", ["dense", "householder"])


@PATHS
def test_after_a_broadcast_all_processes_compute_what_the_first_does(two_processes: Ended, frames: str) -> None:
    first, second = (rank[f"broadcast {frames}"] for rank in two_processes.ranks)
    assert torch.equal(first, second)
    assert not torch.allclose(first, made(frames)(inputs()), atol=1e-4)


@PATHS
def test_a_model_computes_with_what_another_process_wrote_into_its_parameters(
    two_processes: Ended, frames: str
) -> None:
    model = two_processes.shared[frames]
    after = model(inputs()).detach()
    torch.testing.assert_close(after, meant(model))
    assert not torch.allclose(after, two_processes.before[frames], atol=1e-3)


@pytest.mark.parametrize(("frames", "options"), [("riemannian", {"moment": "matrix"}), ("householder", {})])
def test_ddp_trains_what_one_process_does(two_processes: Ended, frames: str, options: dict[str, str]) -> None:
    job = " ".join(["ddp", frames, *options.values()])
    first, second = (rank[job] for rank in two_processes.ranks)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, learn(made(frames), frames, inputs(), **options), rtol=0, atol=4e-7)


def test_eigenbases_of_gradients_make_little_of_the_order_of_sums(two_processes: Ended) -> None:
    first, second = (rank["ddp riemannian"] for rank in two_processes.ranks)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, learn(made("riemannian"), "riemannian", inputs()), rtol=0, atol=5e-5)


@SHARDED
@KINDS
def test_fully_shard_trains_what_one_process_does(two_processes: Ended, kind: str, where: str) -> None:
    first, second = (rank[f"fsdp {kind} {where}"] for rank in two_processes.ranks)
    assert not isinstance(first, str), first
    torch.testing.assert_close(first[0], second[0])
    torch.testing.assert_close(first[0], learn(made(kind), kind, inputs()), rtol=0, atol=1e-5)


@SHARDED
@KINDS
def test_the_state_of_a_sharded_model_is_loaded_in_one_process(two_processes: Ended, kind: str, where: str) -> None:
    found = two_processes.ranks[0][f"fsdp {kind} {where}"]
    assert not isinstance(found, str), found
    out, state = found
    model = made(kind)
    model.load_state_dict(state)
    torch.testing.assert_close(model(inputs()).detach(), out, rtol=0, atol=1e-5)


@SHARDED
def test_riemannian_frames_that_are_sharded_are_refused_with_the_way_out(two_processes: Ended, where: str) -> None:
    for rank in two_processes.ranks:
        line = rank[f"fsdp riemannian {where}"]
        assert isinstance(line, str), "it trained"
        assert line.startswith("RuntimeError: ")
        assert "shard" in line
        assert "convert_frames" in line
        assert "\n" not in line
