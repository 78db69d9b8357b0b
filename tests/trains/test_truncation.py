"""Truncation of all bonds of a chain, against singular value decompositions of unfolded dense matrices."""

from __future__ import annotations

import torch
from hypothesis import given

from sttp_riemann.trains.bonds import left_out, lost_energies
from sttp_riemann.trains.truncation import truncate
from tests.strategies import METHODS, SEEDS, layer_dimensions
from tests.trains.chains import factors, matrix, orthonormal, random_chain, smaller, spectra


def _tail(values: torch.Tensor, rank: int) -> float:
    return float(values[rank:].square().sum())


@given(layer_dimensions(), METHODS, SEEDS)
def test_w_moves_by_no_more_than_the_singular_values_that_are_cut(dims: tuple, method: str, seed: int) -> None:
    shape, wanted = smaller(*dims, seed, method)
    chain = random_chain(shape, seed)
    w, cut = matrix(chain), truncate(chain, wanted).chain
    bound = sum(_tail(s, r) for s, r in zip(spectra(shape, w), wanted.ranks[1:-1], strict=True))
    assert float((matrix(cut) - w).norm()) <= bound**0.5 * (1 + 1e-9) + 1e-12 * float(w.norm())
    assert orthonormal(cut)
    assert tuple(core.inner for core in cut.trains[0].cores) == wanted.ranks[1 : len(cut.trains[0].cores) + 1]


@given(layer_dimensions(), METHODS, SEEDS)
def test_w_becomes_its_projection_to_the_new_frames(dims: tuple, method: str, seed: int) -> None:
    shape, wanted = smaller(*dims, seed, method)
    chain = random_chain(shape, seed)
    cut = truncate(chain, wanted).chain
    u, v = factors(cut)
    torch.testing.assert_close(u.mT @ matrix(chain) @ v, torch.diag(cut.values), rtol=0, atol=1e-12)


@given(layer_dimensions(), SEEDS)
def test_without_trains_it_is_the_best_approximation_of_its_rank(dims: tuple, seed: int) -> None:
    shape, wanted = smaller(*dims, seed, "svdp")
    chain = random_chain(shape, seed)
    w = matrix(chain)
    best = _tail(torch.linalg.svdvals(w), wanted.rank) ** 0.5
    assert abs(float((matrix(truncate(chain, wanted).chain) - w).norm()) - best) < 1e-12 * float(w.norm())


@given(layer_dimensions(), METHODS, SEEDS)
def test_lost_energies_are_the_tails_at_all_bonds(dims: tuple, method: str, seed: int) -> None:
    shape, _ = smaller(*dims, seed, method)
    chain = random_chain(shape, seed)
    w = matrix(chain)
    expected = [sum(_tail(s, r) for s in spectra(shape, w)) for r in range(1, max(shape.ranks) + 1)]
    found = lost_energies(chain) * w.square().sum()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-14)


@given(layer_dimensions(), METHODS, SEEDS)
def test_cores_that_a_layer_leaves_out_are_the_identity(dims: tuple, method: str, seed: int) -> None:
    shape, wanted = smaller(*dims, seed, method)
    cut = truncate(random_chain(shape, seed), wanted).chain
    for train, frames, kept in zip(cut.trains, cut.frames, (wanted.left, wanted.right), strict=True):
        assert [core for core in train.cores if not left_out(core)] == list(kept.cores)
        for core, frame in zip(train.cores, frames, strict=True):
            assert not left_out(core) or torch.equal(frame, torch.eye(core.rows, dtype=torch.float64))
