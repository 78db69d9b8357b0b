"""A reparameterized model in a file: its tensors, and what the layers that own them are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from sttp_riemann.checks import check_choice, check_mapping, check_number, check_whole, shown
from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.files import child, parse_json
from sttp_riemann.frames import FRAMES
from sttp_riemann.layers.adapted import FROZEN
from sttp_riemann.layers.application import Application
from sttp_riemann.layers.options import decode, encode
from sttp_riemann.layers.recompute import RECOMPUTE, Recompute, check_memory
from sttp_riemann.layers.told import Told, read_told
from sttp_riemann.sealed import LARGEST_HEADER, SealError, is_sealed, plain_tensors, unseal

FORMAT = "sttp_riemann model 1"
EXTRA = "_extra_state"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""Names that `save_pretrained` of transformers gives: one file, or the list of several."""

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
LONGEST_EXTRA = 2**20
SETTINGS = ("weight", "application", "recompute", "memory", "room", "dense_error")
EARLIER = {"memory": 1.0}
"""What files that do not tell it mean."""


@dataclass(frozen=True)
class Settings:
    """What is not in the state of a layer.

    Attributes
    ----------
    weight : tuple of int
        Shape of the weight.
    application, recompute, memory, room, dense_error
        As `SpectralLayer` has them.
    """

    weight: tuple[int, ...]
    application: Application
    recompute: Recompute
    memory: float
    room: float
    dense_error: float | None


@dataclass(frozen=True)
class Packed:
    """Tensors that a model is needed to take apart; see `sttp_riemann.model.packing`.

    Attributes
    ----------
    flat : dict[str, Tensor]
        By type.
    layout : str
        Digest of their names, types and shapes.
    frames : dict[str, str]
        Layers whose frames are to be of another kind than in the file, and that kind.
    """

    flat: dict[str, Tensor]
    layout: str
    frames: dict[str, str]


@dataclass
class Stored:
    """Content of a file, checked.

    Attributes
    ----------
    where : str
        Of the file, for messages.
    tensors : dict[str, Tensor]
        State by name; of tied names only the first, at least.
    layers : dict[str, Told]
        The reparameterized layers by name; others are dense.
    settings : dict[str, Settings]
        Theirs; empty where others wrote the file.
    tied : dict[str, str] or None
        Names of the state that share a tensor with an earlier one; None where others wrote the file.
    frozen : list of str or None
        Names of parameters that are not trained; None where others wrote the file.
    base : dict[str, str]
        Of adapters: names of the state that are not in the file, as the model has them already, and their digests.
    packed : Packed or None
        Of a compact file, where `tensors` has only what layers tell of themselves until the rest is taken apart.
    """

    where: str
    tensors: dict[str, Tensor]
    layers: dict[str, Told] = field(default_factory=dict)
    settings: dict[str, Settings] = field(default_factory=dict)
    tied: dict[str, str] | None = None
    frozen: list[str] | None = None
    base: dict[str, str] = field(default_factory=dict)
    packed: Packed | None = None


def under(name: str, part: str) -> str:
    """Name of a part of a layer in the state of the model; the model itself has no name."""
    return f"{name}.{part}" if name else part


def first_names(state: Mapping[str, Any]) -> dict[str, str]:
    """Of each name of a state, the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


def read(source: Path | Mapping[str, Any], whole: bool = True) -> Stored:
    """Read a model.

    Parameters
    ----------
    source : Path or mapping
        A file of `sttp_riemann.save`, a safetensors file of a state, a folder of `save_pretrained`, or a state.
    whole : bool
        Whether to read all tensors where others wrote the file, and not only those of reparameterized layers.

    Returns
    -------
    Stored

    Raises
    ------
    CheckpointError
        It is missing or damaged, or it is something else.
    """
    if isinstance(source, Mapping):
        for name, tensor in source.items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                raise CheckpointError(f"the state has {shown(name)}: {shown(tensor)}; give one of names and tensors")
        return Stored("the state", dict(source), _layers_in("the state", source))
    where = str(source)
    try:
        files = _files(source)
        if len(files) == 1 and is_sealed(files[0]):
            return of_sealed(where, *unseal(files[0], FORMAT))
        extras = _all_of(files, lambda name: name.endswith(EXTRA))
        layers = _layers_in(where, extras)
        return Stored(where, _all_of(files, lambda name: whole or owner_of(name, layers) is not None), layers)
    except SealError as error:
        pickled = source.suffix in PICKLED
        hint = "; give a state of torch.save itself: sr.load(torch.load(path), model)" if pickled else ""
        raise CheckpointError(f"{where} {error}{hint}") from error
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}; save the model again") from error
    except OSError as error:
        raise CheckpointError(f"{where} cannot be read: {error.strerror or error}") from error


def tensors_of(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Some tensors of a folder that `read` has read.

    Parameters
    ----------
    folder : Path
        Written by `save_pretrained`.
    wanted : callable
        From a tensor's name to whether it is read.

    Returns
    -------
    dict[str, Tensor]
    """
    return _all_of(_files(folder), wanted)


def owner_of(name: str, layers: Mapping[str, Told]) -> str | None:
    """The layer whose weight a name of the state belongs to; None for all else."""
    for part in ("left", "right", "spectrum", EXTRA, *FROZEN):
        head, found, _ = f".{name}.".rpartition(f".{part}.")
        if found and head[1:] in layers:
            return head[1:]
    return None


def _files(source: Path) -> list[Path]:
    """The file, or those of a folder of transformers."""
    if not source.is_dir():
        return [source]
    if (source / WHOLE).is_file():
        return [source / WHOLE]
    index = source / INDEX
    if not index.is_file():
        raise CheckpointError(f"{source} has neither {WHOLE} nor {INDEX}: name a folder that save_pretrained wrote")
    if index.stat().st_size > LARGEST_HEADER:
        raise SealError("is damaged: its list of files is too long")
    found = parse_json(index.read_text("utf-8"))
    names = found.get("weight_map") if isinstance(found, dict) else None
    check_mapping(f"weight_map in {INDEX}", names, "a mapping from tensors to files")
    assert isinstance(names, dict)
    try:
        return [child(source, str(name)) for name in dict.fromkeys(map(str, names.values()))]
    except RecipeError as error:
        raise CheckpointError(f"{source}: {INDEX} names a file elsewhere: {error}") from error


def _all_of(files: list[Path], wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in files:
        new = plain_tensors(file, wanted)
        twice = next((name for name in new if name in found), None)
        if twice is not None:
            raise ValueError(f"{shown(twice)} is in two files")
        found.update(new)
    return found


def _layers_in(where: str, state: Mapping[str, Tensor]) -> dict[str, Told]:
    """Reparameterized layers, from what a state tells of each."""
    found = {}
    for name in state:
        if name != EXTRA and not name.endswith(f".{EXTRA}"):
            continue
        layer, told = name.removesuffix(EXTRA).removesuffix("."), _decoded(state[name])
        # Other modules have extra states, too
        if told is None or "modes" not in told:
            continue
        try:
            found[layer] = read_told(told)
        except ValueError as error:
            raise CheckpointError(f"{where}: layer {layer!r}: {error}; save the model again") from error
    if not found:
        raise CheckpointError(
            f"{where} has no reparameterized layer: load it as the state of a dense model, with load_state_dict or "
            "from_pretrained of its class"
        )
    return found


def _decoded(state: Tensor) -> dict[str, Any] | None:
    return decode(state) if state.ndim == 1 and state.numel() <= LONGEST_EXTRA else None


def of_sealed(where: str, tensors: dict[str, Tensor], values: Mapping[str, Any]) -> Stored:
    """Check a header against the tensors that it comes with.

    Parameters
    ----------
    where : str
        The file, for messages.
    tensors : dict[str, Tensor]
        Of the file.
    values : mapping
        Likewise.

    Returns
    -------
    Stored

    Raises
    ------
    ValueError
        An entry is missing, unknown or wrong.
    """
    if set(values) - {"base", "packed"} != {"layers", "tied", "frozen"}:
        raise ValueError(
            "its header must have layers, tied and frozen, for adapters base, if compact packed, and nothing else"
        )
    abouts = check_mapping("layers in its header", values["layers"], "a mapping of layers")
    if "packed" in values:
        common = _common(values["packed"])
        abouts = {name: {**common, **check_mapping("a layer", own, "a mapping")} for name, own in abouts.items()}
    layers, settings = {}, {}
    for name, about in abouts.items():
        try:
            layers[name], settings[name] = _of_layer(about)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error
    packed = None
    if "packed" in values:
        packed = _packed(tensors, values["packed"], layers)
        tensors = {under(n, EXTRA): encode(_told_of(about)) for n, about in abouts.items()}
    base = check_mapping("base in its header", values.get("base", {}), "a mapping from names to digests")
    for name, sum_of in base.items():
        if not isinstance(sum_of, str) or name in tensors:
            raise ValueError(f"base in its header names {shown(name)}, which is a tensor of it or has no digest")
    tied = check_mapping("tied in its header", values["tied"], "a mapping from names to names")
    for name, first in tied.items():
        # Names of a compact file are known when it is taken apart
        unknown = packed is None and first not in tensors and first not in base
        if not isinstance(first, str) or unknown or name in tensors:
            raise ValueError(f"tied in its header names {shown(first)}, which is not a tensor of it")
    frozen = values["frozen"]
    if not isinstance(frozen, list) or not all(isinstance(name, str) for name in frozen):
        raise ValueError(f"frozen in its header must be a list of names, got {shown(frozen)}")
    found = _layers_in(where, tensors)
    different = [name for name in {**layers, **found} if layers.get(name) != found.get(name)]
    if different:
        raise ValueError(f"layer {different[0]!r}: its header and its state tell different options")
    return Stored(where, tensors, layers, settings, dict(tied), frozen, dict(base), packed)


def _of_layer(about: Any) -> tuple[Told, Settings]:
    about = {**EARLIER, **check_mapping("its entry", about, "a mapping of options")}
    for name in SETTINGS:
        if name not in about:
            raise ValueError(f"{name} is missing")
    weight, room = about["weight"], about["room"]
    if not isinstance(weight, list):
        raise ValueError(f"weight must be a list of sizes, got {shown(weight)}")
    check_choice("application", about["application"], get_args(Application))
    check_choice("recompute", about["recompute"], RECOMPUTE)
    error = about["dense_error"]
    settings = Settings(
        weight=tuple(check_whole("weight", size, "a list of sizes") for size in weight),
        application=about["application"],
        recompute=about["recompute"],
        memory=check_memory(about["memory"], about["recompute"]),
        room=check_number("room", room, "a number"),
        dense_error=None if error is None else check_number("dense_error", error, "a number from 0", least=0),
    )
    return read_told(_told_of(about)), settings


def _told_of(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name not in SETTINGS}


def _common(found: Any) -> Mapping[str, Any]:
    """What all layers of a compact file tell."""
    check_mapping("packed in its header", found, "a mapping")
    if set(found) != {"layout", "frames", "common"} or not isinstance(found["layout"], str):
        raise ValueError("packed in its header must have a layout, frames and common, and nothing else")
    common: Mapping[str, Any] = check_mapping("common in its header", found["common"], "a mapping of options")
    return common


def _packed(flat: dict[str, Tensor], found: Any, layers: Mapping[str, Told]) -> Packed:
    frames = check_mapping("frames in its header", found["frames"], "a mapping from layers to kinds of frames")
    for name, kind in frames.items():
        if name not in layers:
            raise ValueError(f"frames in its header names {shown(name)}, which is no layer of it")
        check_choice("frames", kind, tuple(FRAMES))
    return Packed(flat, found["layout"], dict(frames))
