"""Compare the tensors of a file with the state that a model is going to have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.errors import CheckpointError
from sttp_riemann.frames import Frames
from sttp_riemann.model.fitting import REBUILD, RECAST, Fit
from sttp_riemann.model.packing import unpack
from sttp_riemann.model.stored import EXTRA, Packed, Stored, first_names, owner_of, under
from sttp_riemann.sealed import digest


def matched(fit: Fit, whole: bool = True) -> dict[str, Tensor]:
    """The file's tensor for every name in the state that the model is going to have.

    Parameters
    ----------
    fit : Fit
        The model and the file.
    whole : bool
        Whether for the whole state; otherwise for reparameterized layers and pieces only, in whatever dtype.

    Returns
    -------
    dict[str, Tensor]
        Tied names have one tensor.

    Raises
    ------
    CheckpointError
        A tensor is missing, is one too many, or is of another shape or dtype.
    """
    stored, slots = fit.stored, fit.slots()
    if stored.packed is not None:
        stored.tensors.update(_unpacked(fit, stored.packed, slots))
    if not whole:
        pieces = {under(name, "weight") for name in fit.pieces}
        slots = {n: tensor for n, tensor in slots.items() if n in pieces or owner_of(n, fit.layers) is not None}
    groups: dict[str, list[str]] = {}
    for name, first in first_names(slots).items():
        groups.setdefault(first, []).append(name)
    _check_tied(stored, groups)
    for name, buffer in fit.model.named_buffers():
        if whole and buffer.is_meta and name not in slots:
            raise CheckpointError(
                f"{stored.where}: buffer {name!r} is not part of the state, and has no numbers on the meta device; "
                "build the model on another device"
            )
    options = {under(name, EXTRA): fit.state_of(layer) for name, layer in fit.layers.items()}
    left = [name for name in (*stored.tensors, *(stored.frozen or ()), *stored.base) if name not in slots]
    if left:
        raise CheckpointError(f"{stored.where}: {left[0]!r} is in the file, and the model has no such name; {REBUILD}")
    found = {}
    for names in groups.values():
        pretrained = next((name for name in names if name in stored.base), None)
        if pretrained is not None:
            found.update(dict.fromkeys(names, _pretrained(fit, pretrained, slots[pretrained])))
            continue
        given = [name for name in names if name in stored.tensors]
        if not given and names[0] not in options:
            raise CheckpointError(f"{stored.where}: {names[0]!r} is in the model, and not in the file; {REBUILD}")
        tensor = options[names[0]] if names[0] in options else stored.tensors[given[0]]
        for other in given[1:]:
            if not torch.equal(tensor, stored.tensors[other]):
                raise CheckpointError(
                    f"{stored.where}: {given[0]!r} and {other!r} are one tensor in the model and differ in the file; "
                    "untie them first"
                )
        if not names[0].endswith(EXTRA):
            _check_tensor(stored.where, names[0], tensor, slots[names[0]], whole)
            if tensor.dtype == torch.int64 and owner_of(names[0], fit.layers) is not None:
                _check_rows(stored.where, names[0], tensor)
        found.update(dict.fromkeys(names, tensor))
    return found


def _unpacked(fit: Fit, packed: Packed, slots: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take a compact file apart."""
    stored = fit.stored
    left_out = {*(stored.tied or ()), *stored.base, *(under(name, EXTRA) for name in fit.layers)}
    wanted = {name: tensor for name, tensor in slots.items() if name not in left_out}
    tensors = unpack(packed.flat, packed.layout, wanted)
    if tensors is None:
        there, here = (sum(t.numel() for t in own.values()) for own in (packed.flat, wanted))
        raise CheckpointError(
            f"{stored.where}: the file has other tensors than the model ({there:,} numbers there, {here:,} here); "
            f"{REBUILD}"
        )
    return tensors


def _pretrained(fit: Fit, name: str, own: Tensor) -> Tensor:
    """What the model has already and the file relies on, after checking that it is the same."""
    where = fit.stored.where
    if own.is_meta:
        raise CheckpointError(
            f"{where}: {name!r} is on the meta device, and adapters need the pretrained weights; load those first"
        )
    tensor = fit.without_start(name, own.detach())
    if digest({"": tensor}) != fit.stored.base[name]:
        raise CheckpointError(
            f"{where}: {name!r} of the model is not what these adapters were trained on; load the same pretrained "
            "weights, of the same dtype, first"
        )
    return tensor


def _check_tied(stored: Stored, groups: Mapping[str, list[str]]) -> None:
    if stored.tied is None:
        return
    there: dict[str, set[str]] = {}
    for name, first in stored.tied.items():
        there.setdefault(first, {first}).add(name)
    here = {first: set(names) for first, names in groups.items() if len(names) > 1}
    for one, other, places in ((there, here, ("file", "model")), (here, there, ("model", "file"))):
        for names in one.values():
            if names not in other.values():
                told = " and ".join(map(repr, sorted(names)[:2]))
                raise CheckpointError(
                    f"{stored.where}: {told} are one tensor in the {places[0]} and not in the {places[1]}; {REBUILD}"
                )


def _check_tensor(where: str, name: str, there: Tensor, here: Tensor, exact: bool) -> None:
    if hasattr(here, "__tensor_flatten__"):
        raise CheckpointError(f"{where}: {name!r} of the model is a {type(here).__name__}; load before it is sharded")
    castable = not exact and there.is_floating_point() and here.is_floating_point()
    if there.shape == here.shape and (there.dtype == here.dtype or castable):
        return
    texts = (f"{tuple(t.shape)} of {str(t.dtype).removeprefix('torch.')}" for t in (there, here))
    remedy = REBUILD if there.shape != here.shape else RECAST
    raise CheckpointError("{}: {!r} is {} in the file and {} in the model; {}".format(where, name, *texts, remedy))


def _check_rows(where: str, name: str, rows: Tensor) -> None:
    """Rows of pivoted frames are indices, which other numbers would turn into a wrong weight."""
    # Other kinds of frames may have whole numbers, too
    if ".rows_" in f".{name}" and not torch.equal(rows.sort().values, torch.arange(rows.numel(), device=rows.device)):
        raise CheckpointError(f"{where}: {name!r} is no order of the rows of a frame; save the model again")


def leave_meta(model: nn.Module) -> None:
    """Give memory on the CPU to what is on the meta device; what is shared stays shared."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, old in held.items():
                if old is None or not old.is_meta:
                    continue
                if id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                    made[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
                held[name] = made[id(old)]
        if isinstance(module, Frames):
            module.restore()
