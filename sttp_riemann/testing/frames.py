"""Check a way to store frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.frames import FRAMES, Frames
from sttp_riemann.frames.frame import orthogonality_error, wide_dtype
from sttp_riemann.model.conversion import convert_frames
from sttp_riemann.model.gauge import canonicalize, gauge_fix
from sttp_riemann.testing.models import (
    EXACT,
    copy_of,
    disturb_,
    gap,
    layers_of,
    registered,
    require,
    rotation,
    spectral_network,
    weights_of,
)
from sttp_riemann.trains.gauge import triangularizing_rotation
from sttp_riemann.trains.shape import Core

CORES = [
    *(Core(1, n, r, reduced=True) for n, r in ((4, 1), (5, 3), (9, 4))),
    *(Core(1, n, r, reduced=False) for n, r in ((1, 1), (4, 4), (6, 2), (7, 5))),
    Core(3, 4, 5, reduced=True),
    Core(2, 3, 4, reduced=False),
]


def check_frame(kind: type[Frames] | str) -> None:
    """Check a kind of frame: its storage, its motion, and its behaviour in a model.

    Frames are orthonormal for all values of their parameters; the Jacobian's rank is the number of degrees of freedom;
    given frames are stored exactly; frames come out equal alone and in a batch, and `trace` gives their gradient;
    weights survive conversion, gauge moves, states, copies, files, and moves between dtypes and devices.

    Parameters
    ----------
    kind : type or str
        A subclass of `Frames`, or its name in `FRAMES`; it needs no row there.

    Raises
    ------
    AssertionError
        One line on what does not hold.

    Examples
    --------
    >>> import sttp_riemann as sr
    >>> import sttp_riemann.testing
    >>> sr.testing.check_frame("riemannian")
    """
    with registered(kind) as name:
        for core in CORES:
            _check_core(FRAMES[name], core)
        for options in ({"spectrum": "learned"}, {"spectrum": "identity"}, {"method": "svdp", "spectrum": "free"}):
            _check_network(lambda seed, options=options: spectral_network(name, seed, **options), name)  # type: ignore[misc]


def _check_core(kind: type[Frames], core: Core) -> None:
    where = f"{kind.__name__}, {core.rows} x {core.inner}{' in St_U' if core.reduced else ''}"
    orders = [_order(kind, core, seed) for seed in range(3)]
    given = [_frame(core, seed, order) for seed, order in enumerate(orders)]
    held = kind([core] * 3, given, orders)
    found = [held.frame(k, torch.float64).detach() for k in range(3)]
    require(gap(found, given) < EXACT, f"{where}: the stored frame is not the one that was given")
    _check_numbers(held, core, where)
    _check_without_numbers(held, core, where)
    disturb_(held, 1)
    with torch.no_grad():
        moved = torch.stack([held.frame(k, torch.float64) for k in range(3)])
    require(
        orthogonality_error(moved) < EXACT, f"{where}: frames are not orthonormal after their parameters have moved"
    )
    _check_batch(held, core, moved, where)
    held.lead(1, orders[2])
    held.assign_(1, given[2])
    require(
        gap([held.frame(1, torch.float64).detach(), held.frame(2, torch.float64).detach()], [given[2], moved[2]])
        < EXACT,
        f"{where}: assign_ does not store the given frame, or changes another one",
    )
    rank = _jacobian_rank(held, core)
    require(rank == core.dof, f"{where}: the Jacobian has rank {rank}, and the frame has {core.dof} degrees of freedom")


def _check_without_numbers(held: Frames, core: Core, where: str) -> None:
    """What `sttp_riemann.load` does: sizes first, numbers later."""
    own, rows = (torch.empty(*size, device="meta") for size in ((core.rows, core.inner), (core.rows,)))
    blank = type(held)([core] * 3, [own.to(held.tensors(0)[0].dtype)] * 3, [rows.long()] * 3).to_empty(device="cpu")
    blank.load_state_dict(held.state_dict())
    same = all(torch.equal(blank.frame(k, torch.float64), held.frame(k, torch.float64)) for k in range(3))
    require(same, f"{where}: `hold` of a frame on the meta device does not make room for its numbers")


def _check_numbers(held: Frames, core: Core, where: str) -> None:
    own = held[0]
    numbers = 0 if own is None else own.numel()
    require(numbers == held.numbers(core), f"{where}: `numbers` is {held.numbers(core)}, and {numbers} are trained")
    count = len(held.tensors(0))
    require(
        count == held.components(core), f"{where}: `components` is {held.components(core)}, `tensors` gives {count}"
    )
    twin = replace(core)
    require(held.key(core) == held.key(twin), f"{where}: `key` differs for equal cores")
    if held.direct:
        require(
            own is None or own.shape == (core.rows, core.inner),
            f"{where}: `direct` is set, but the parameter is not a frame",
        )


def _check_batch(held: Frames, core: Core, alone: Tensor, where: str) -> None:
    stacks = [torch.stack([t.detach() for t in own]) for own in zip(*(held.tensors(k) for k in range(3)), strict=True)]
    batch = held.materialize(core, *stacks).detach()
    require(gap([batch], [alone]) < EXACT, f"{where}: frames differ when they are computed in one batch")
    traced, pull = held.trace(core, *stacks)
    require(gap([traced.detach()], [alone]) < EXACT, f"{where}: `trace` and `materialize` give different frames")
    leaves = [stack.clone().requires_grad_(stack.is_floating_point()) for stack in stacks]
    cotangent = torch.randn(alone.shape, dtype=alone.dtype, generator=torch.Generator().manual_seed(2))
    trained = [leaf for leaf in leaves if leaf.requires_grad]
    given = iter(torch.autograd.grad(held.materialize(core, *leaves), trained, cotangent, allow_unused=True))
    wanted = [next(given) if leaf.requires_grad else None for leaf in leaves]
    pairs = [(a, b) for a, b in zip(pull(cotangent), wanted, strict=True) if a is not None]
    require(
        all(b is not None and gap([a], [b]) < EXACT for a, b in pairs),
        f"{where}: `trace` and autograd give different gradients",
    )


def _jacobian_rank(held: Frames, core: Core) -> int:
    """Rank of the differential of a frame, or of its span where only the span matters."""
    parameter = held[0]
    if parameter is None:
        return 0
    buffers = [t.detach().unsqueeze(0) for t in held.tensors(0)[:-1]]

    def frame(numbers: Tensor) -> Tensor:
        x = held.materialize(core, *buffers, numbers.unsqueeze(0))[0]
        return x @ x.mT if core.reduced else x

    jacobian: Any = torch.autograd.functional.jacobian(frame, parameter.detach())
    jacobian = jacobian.reshape(-1, parameter.numel())
    manifold = getattr(parameter, "manifold", None)
    if manifold is not None:
        unit = torch.eye(parameter.numel(), dtype=parameter.dtype).view(-1, *parameter.shape)
        tangent = torch.stack([manifold.proju(parameter.detach(), direction) for direction in unit])
        jacobian = jacobian @ tangent.reshape(parameter.numel(), -1).mT
    return int(torch.linalg.matrix_rank(jacobian, rtol=1e-9)) if float(jacobian.abs().max()) > EXACT else 0


def _check_network(make: Callable[[int], nn.Module], name: str) -> None:
    model = make(0)
    before = weights_of(model)
    for verb in (gauge_fix, canonicalize):
        changed = verb(copy_of(model))
        require(gap(weights_of(changed), before) < EXACT, f"{name}: {verb.__name__} changes the weights of a model")
    for other in [kind for kind in FRAMES if kind != name]:
        there = convert_frames(copy_of(model), other)
        back = convert_frames(copy_of(there), name)
        require(gap(weights_of(there), before) < EXACT, f"{name}: weights change when frames become {other}")
        require(gap(weights_of(back), before) < EXACT, f"{name}: weights change when {other} frames become {name}")
    twin, loaded = copy_of(model), make(1)
    loaded.load_state_dict(model.state_dict())
    require(gap(weights_of(twin), before) == 0, f"{name}: a copy of a model has different weights")
    require(gap(weights_of(loaded), before) == 0, f"{name}: a model has different weights after load_state_dict")
    disturb_(twin, 2)
    require(gap(weights_of(model), before) == 0, f"{name}: a copy of a model shares memory with it")
    narrow = copy_of(model).float()
    require(gap(weights_of(narrow), before) < 1e-5, f"{name}: weights change when a model is cast to float32")
    half = copy_of(model).bfloat16()
    kept = [t for layer in layers_of(half) for side in (layer.left, layer.right) for t in side.parameters()]
    wide = all(t.dtype == wide_dtype(t.dtype) for t in kept)
    require(wide, f"{name}: frames of a model in bfloat16 are stored in less than float32")
    away = copy_of(model).to("meta")
    require(
        all(t.is_meta for t in (*away.parameters(), *away.buffers())),
        f"{name}: tensors stay behind when a model is moved",
    )


def _order(kind: type[Frames], core: Core, seed: int) -> Tensor:
    """Rows in the order in which they lead: any where they may."""
    generator = torch.Generator().manual_seed(seed)
    free = kind.pivoted and core.reduced
    return torch.randperm(core.rows, generator=generator) if free else torch.arange(core.rows)


def _frame(core: Core, seed: int, order: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    frame = rotation(core.rows, generator)[:, : core.inner]
    return frame @ triangularizing_rotation(frame[order[: core.inner]]) if core.reduced else frame
