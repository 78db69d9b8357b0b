"""Norms of convolutions as operators, against the matrix of the whole operator in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sttp_riemann.trains.operators import REPORT, TRAINING, circular_singular_values, operator_bound
from sttp_riemann.trains.places import Places, folded

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def apply(kernel: Tensor, places: Places, x: Tensor) -> Tensor:
    space = len(places.kernel)
    if places.transposed:
        # Torch crops by its padding; what is left of an operator has no larger norm
        extra = tuple(min(1, t - 1) for t in places.stride)
        options = {"stride": places.stride, "dilation": places.dilation, "groups": places.groups}
        return TRANSPOSED[space](x, kernel, output_padding=extra, **options)
    if places.mode == "zeros":
        x = F.pad(x, [side for pair in reversed(places.pads) for side in pair])
    else:
        x = F.pad(x, [side for pair in reversed(places.pads) for side in pair], mode=places.mode)
    return CONVOLVE[space](x, kernel, None, places.stride, 0, places.dilation, places.groups)


def whole_norm(kernel: Tensor, places: Places, size: tuple[int, ...]) -> float:
    channels = kernel.shape[0] if places.transposed else kernel.shape[1] * places.groups
    basis = torch.eye(channels * math.prod(size), dtype=kernel.dtype).view(-1, channels, *size)
    return float(torch.linalg.matrix_norm(apply(kernel, places, basis).flatten(1), 2))


def random_case(seed: int) -> tuple[Tensor, Places, tuple[int, ...]]:
    """A convolution that torch would compute, and a size of its maps; spectra fall at random, too."""
    generator = torch.Generator().manual_seed(seed)

    def pick(*choices):
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    space = pick(1, 1, 2, 2, 3)
    most = (0, 5, 4, 3)[space]
    kernel = tuple(pick(*range(1, most + 1)) for _ in range(space))
    stride = tuple(pick(1, 1, 2, 3) for _ in range(space))
    dilation = tuple(pick(1, 1, 2) for _ in range(space))
    transposed = pick(False, False, True)
    mode = "zeros" if transposed else pick("zeros", "zeros", "circular", "reflect", "replicate")
    size = tuple(
        pick(*range(max(4, 1 + d * (k - 1)), (0, 13, 9, 6)[space])) for k, d in zip(kernel, dilation, strict=True)
    )
    if transposed:
        pads = ((0, 0),) * space
    elif pick(True, False):  # keeps the size, as padding="same" does
        spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pads = tuple((span // 2, span - span // 2) for span in spans)
    else:
        pads = tuple((p, p) for p in (pick(0, 1, 2, 3) for _ in range(space)))
    groups = pick(1, 1, 2)
    rows, columns = groups * pick(1, 2, 3), pick(1, 2, 3)
    weight = torch.randn(rows, columns, *kernel, generator=generator, dtype=torch.float64)
    if pick(True, False):
        weight *= 0.3 ** torch.arange(rows, dtype=torch.float64).view(-1, *(1,) * (space + 1))
    return weight, Places(kernel, stride, dilation, pads, mode, groups, transposed), size


def powered_norm(kernel: Tensor, places: Places, size: tuple[int, ...], steps: int = 30) -> float:
    """Norm from below, by power iteration with the operator and its adjoint."""
    channels = kernel.shape[0] if places.transposed else kernel.shape[1] * places.groups
    x = torch.randn(1, channels, *size, dtype=kernel.dtype, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        x = (x / x.norm()).requires_grad_()
        y = apply(kernel, places, x)
        (x,) = torch.autograd.grad(y, x, y.detach())
    return float(y.detach().norm())


def check_by_power_iteration(seeds: range) -> None:
    for seed in seeds:
        kernel, places, size = random_case(seed)
        norm = powered_norm(kernel, places, size)
        for effort, known in ((TRAINING, None), (REPORT, size)):
            bound = float(operator_bound(kernel.float(), places, known, effort))
            assert norm <= bound, (seed, places, size, norm, bound)


def test_the_bound_is_never_under_the_norm_by_power_iteration():
    check_by_power_iteration(range(100))


@pytest.mark.slow
def test_the_bound_is_never_under_the_norm_by_power_iteration_in_a_thousand_cases():
    check_by_power_iteration(range(1000))


def test_the_bound_is_never_under_the_norm_of_the_matrix_and_near_it_without_repeats():
    seen = 0
    for seed in range(40):
        kernel, places, size = random_case(seed)
        if len(size) == 3:
            continue
        true = whole_norm(kernel, places, size)
        assert true <= float(operator_bound(kernel, places, effort=TRAINING))
        # Maps much larger than the kernel come near the norm on an infinite grid
        if len(size) == 1 and places.mode == "zeros" and max(places.kernel) > 1:
            seen += 1
            assert float(operator_bound(kernel, places)) <= 1.03 * whole_norm(kernel, places, (64,))
    assert seen >= 5


@pytest.mark.parametrize(
    ("size", "stride", "dilation", "kernel"),
    [
        ((9,), 1, 1, (2, 3, 5)),
        ((8,), 2, 1, (3, 2, 5)),
        ((12,), 3, 2, (2, 2, 4)),
        ((6, 4), 2, 1, (3, 2, 3, 4)),
        ((5, 4), 1, 2, (2, 3, 3, 3)),
        ((4, 4, 2), 2, 1, (2, 2, 2, 3, 1)),
        ((3,), 1, 1, (2, 2, 7)),
    ],
)
def test_fourier_blocks_have_the_singular_values_of_the_whole_operator(size, stride, dilation, kernel):
    torch.manual_seed(0)
    weight, space = torch.randn(kernel, dtype=torch.float64), len(size)
    basis = torch.eye(kernel[1] * math.prod(size), dtype=torch.float64).view(-1, kernel[1], *size)
    for axis, taps in enumerate(kernel[2:], start=2):
        places = torch.arange(size[axis - 2] + dilation * (taps - 1)) % size[axis - 2]
        basis = basis.index_select(axis, places)
    operator = CONVOLVE[space](basis, weight, stride=stride, dilation=dilation).flatten(1)
    true = torch.linalg.svdvals(operator)
    found = circular_singular_values(weight, size, stride, dilation).flatten().sort(descending=True).values
    torch.testing.assert_close(found[: len(true)], true)
    assert found[len(true) :].abs().sum() < 1e-10


def test_a_stride_that_does_not_divide_the_map_is_refused():
    with pytest.raises(ValueError, match="a stride of 2 does not divide maps of 5x4"):
        circular_singular_values(torch.ones(1, 1, 2, 2), (5, 4), stride=2)


def test_a_stride_at_the_seam_of_a_circular_map_is_bounded():
    # Places 0, 2 and 4 of five: the first and the last output both read the first value
    places = Places((2,), (2,), (1,), ((0, 1),), "circular", 1, False)
    kernel = torch.ones(1, 1, 2, dtype=torch.float64)
    assert whole_norm(kernel, places, (5,)) == pytest.approx(math.sqrt(3))
    assert float(operator_bound(kernel, places)) >= math.sqrt(3)
    assert float(operator_bound(kernel, places, (6,))) == pytest.approx(math.sqrt(2), rel=1e-4)


def test_folding_gives_each_phase_its_taps():
    kernel = torch.arange(120.0).view(3, 2, 5, 4)
    found = folded(kernel, (2, 3)).view(3, 2, 6, 3, 2)
    phases = [kernel[:, :, a::2, b::3] for a in range(2) for b in range(3)]
    for k, taps in enumerate(phases):
        assert torch.equal(found[:, :, k, : taps.shape[2], : taps.shape[3]], taps)
        assert found[:, :, k].sum() == taps.sum()


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    places = Places((3, 2), (1, 2), (1, 1), ((1, 1),) * 2, "zeros", 2, False)
    kernel = torch.randn(4, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: operator_bound(k, places, effort=TRAINING), kernel)
    assert torch.autograd.gradgradcheck(lambda k: operator_bound(k, places, effort=TRAINING), kernel)


def test_a_kernel_of_zeros_has_the_norm_zero_and_a_finite_gradient():
    kernel = torch.zeros(4, 3, 3, 3, requires_grad=True)
    bound = operator_bound(kernel, Places((3, 3), (1, 1), (1, 1), ((1, 1),) * 2, "zeros", 1, False))
    bound.square().backward()
    assert float(bound.detach()) < 1e-15
    assert kernel.grad.isfinite().all()


def test_a_large_kernel_is_computed_in_float64_and_the_bound_holds():
    torch.manual_seed(0)
    weight = torch.linalg.qr(torch.randn(512, 320))[0].mT.reshape(320, 512, 1)
    places = Places((1,), (1,), (1,), ((1, 1),), "circular", 1, False)
    assert 1 <= float(operator_bound(weight, places, effort=TRAINING)) / math.sqrt(3) < 1.03
