"""Freeze a pretrained model, and train a spectral change of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sttp_riemann.batch.cached import share
from sttp_riemann.checks import check_choice, check_flag, check_kind, check_mapping, check_tensor, check_whole, shown
from sttp_riemann.frames import FRAMES, frames_kind
from sttp_riemann.layers import LAYERS, Adapted, adapted, kind_of
from sttp_riemann.layers.adapted import FROZEN, residual
from sttp_riemann.layers.options import STARTS, Adapter, Options, check_scale
from sttp_riemann.layers.recompute import RECOMPUTE, Recompute, check_memory
from sttp_riemann.model.parts import Parts, frozen_base
from sttp_riemann.model.ranks import Dimensions, Ranks, given_ranks
from sttp_riemann.model.reach import warn_of_left
from sttp_riemann.model.selection import HELD, chosen_layers, spectral_names, weight_of
from sttp_riemann.model.splitting import Splitting, split, splittings_in
from sttp_riemann.model.starting import decomposed
from sttp_riemann.model.weights import matching, names_in
from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.shape import KERNEL_MODES, METHODS, KernelModes, LayerShape, Method
from sttp_riemann.trains.spectrum import spectrum_values
from sttp_riemann.trains.start import LayerCores, draw

Spectrum = Literal["free", "learned"]


def adapt(
    model: nn.Module,
    rank: Ranks = 8,
    method: Method = "sttp",
    frames: str = "riemannian",
    spectrum: Spectrum = "free",
    start: Literal["zero", "pissa", "gradient"] = "zero",
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    seed: int = 0,
    *,
    scale: float = 1.0,
    gradients: Mapping[str, Tensor] | None = None,
    trainable: str | Sequence[str] = (),
    kernel_modes: KernelModes = "flat",
    recompute: Recompute = "auto",
    memory: float = 1.0,
    pivots: bool = True,
) -> nn.Module:
    """Freeze a pretrained model, and give its layers weights W0 + scale * U diag(s) V^T to train, in place.

    Parameters
    ----------
    model : nn.Module
        Changed in place: W0 becomes the frozen parameter ``base`` of its layer, which owns the cores of the change as
        ``left``, ``spectrum`` and ``right``; all else is frozen, and frozen parameters lose their gradients. Earlier
        adapters stay, and train on. Create optimizers afterwards.
    rank : int, float or mapping
        As `reparameterize` takes it.
    method, frames : str
        As `reparameterize` takes them.
    spectrum : {"free", "learned"}
        s = S, which alone can start at 0 and take any size; or s = bound * S / max|S| with the bound of the start, for
        "pissa" only.
    start : {"zero", "pissa", "gradient"}
        No change: s = 0 and random frames. Or the leading singular part of the weight, as far as `method` and ranks
        allow; ``base`` is the rest, so that the outputs stay the same up to rounding. Or s = 0 and frames that span the
        leading singular directions of a gradient.
    include, exclude : str or sequence of str
        Layers to adapt, by default all, and layers not to: names, names of modules that contain them, or patterns with
        ``*``.
    seed : int
        Seed of the random frames.
    scale : float
        Factor of the change.
    gradients : mapping, optional
        With ``start="gradient"``: layer name to the gradient of the loss in the shape of its weight. By default what is
        in ``.grad`` after a backward.
    trainable : str or sequence of str
        What is not frozen beside the adapters: names of parameters, of modules that contain them, or patterns.
    kernel_modes, recompute, memory, pivots
        As `reparameterize` takes them.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    TypeError
        `model` is not a module, or a gradient not a tensor.
    ValueError
        An option is unknown, out of range or does not fit another, a name matches nothing, there is no layer to adapt,
        a weight is quantized or otherwise not plain, or a gradient is missing, zero or does not fit. The model is then
        unchanged.

    Notes
    -----
    A change of low rank is that of Hu et al. 2021 (LoRA); with frames on Stiefel manifolds around a matrix, that of Li
    et al. 2025 (StelLA); "pissa" is that of Meng et al. 2024. At s = 0 the gradient of the frames is zero, and that of
    s is scale * diag(U^T G V) for the gradient G of the weight: the first step moves s, later ones all. V and U are
    applied to the inputs beside the frozen weight, which needs no gradient, or W is built, whichever is cheaper.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    >>> inputs = torch.randn(8, 64)
    >>> before = model(inputs)
    >>> model = sr.adapt(model, rank=4, exclude="2", trainable="2.bias")
    >>> torch.equal(model(inputs), before)
    True
    >>> sorted(name for name, p in model.named_parameters() if not p.requires_grad)
    ['0.base', '0.bias', '2.weight']
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    check_choice("method", method, METHODS)
    check_choice("frames", frames, tuple(FRAMES))
    check_choice("start", start, STARTS)
    check_choice("spectrum", spectrum, ("free", "learned"))
    check_choice("kernel_modes", kernel_modes, KERNEL_MODES)
    check_choice("recompute", recompute, RECOMPUTE)
    memory = check_memory(memory, recompute)
    if spectrum == "learned" and start != "pissa":
        raise ValueError(f"start={start!r} begins at s = 0, where a learned spectrum cannot be; use spectrum='free'")
    if gradients is not None and start != "gradient":
        raise ValueError("gradients choose the frames of start='gradient' only; leave them out")
    seed = check_whole("seed", seed, "a whole number of 64 bits", least=-(2**63), most=2**64 - 1)
    pivots, adapter = check_flag("pivots", pivots), Adapter(check_scale(scale), start)
    splittings = splittings_in(model)
    found = chosen_layers(model, exclude, splittings, include, "adapt")
    layers = {name: twins[0] for name, twins in found.items()}
    for name, twins in found.items():
        for layer in twins:
            _check(name, layer)
    trained = _named_parameters(model, trainable, layers)
    dimensions = {
        name: Dimensions(*LAYERS[kind_of(layer)].matrix_shape(layer), method, False, kernel_modes)
        for name, layer in layers.items()
    }
    ranks = given_ranks(dimensions, rank, done=spectral_names(model))
    shapes = [dimensions[name].shape(own) for name, own in ranks.items()]
    cores = _start(model, layers, shapes, adapter, seed, gradients, splittings)
    room = max(0.0, sum(shape.saving - shape.d_out * shape.d_in for shape in shapes) / len(shapes))
    init: str = "orthogonal" if start == "zero" else "dense"
    made = []
    for name, shape, core in zip(layers, shapes, cores, strict=True):
        bound = float(core.spectrum.abs().max()) if spectrum == "learned" else 1.0
        options = Options(method, spectrum, bound, spectrum == "learned", kernel_modes, init, pivots, adapter=adapter)
        parts = Parts(layers[name], shape, options, frames_kind(frames, pivots), core)
        about: dict[str, Any] = {
            "options": options,
            "shape": shape,
            "recompute": recompute,
            "memory": memory,
            "room": room,
        }
        rest = _rest(layers[name], shape, core, parts, options) if adapter.residual else None
        made.append((parts, rest, {**about, "dense_error": None}))
    # Nothing can fail from here on
    kept = {id(p) for layer in model.modules() if isinstance(layer, Adapted) for p in layer.factor_parameters()}
    for parameter in model.parameters():
        if id(parameter) not in kept and id(parameter) not in trained:
            # An optimizer steps whatever has a gradient
            parameter.requires_grad_(False).grad = None
    for layer, whole in _pieces(splittings):
        if id(whole) not in trained:
            weight_of(layer).requires_grad_(False)
    for twins, (parts, rest, about) in zip(found.values(), made, strict=True):
        about["base"] = frozen_base(weight_of(twins[0])) if rest is None else rest
        about["start"] = parts.start_left, parts.start_right
        for layer in twins:
            kind = adapted(LAYERS[kind_of(layer)])
            assert kind is not None
            kind.adopt(layer, parts.left, parts.spectrum, parts.right, **about)
    split(splittings, [layer for twins in found.values() for layer in twins])
    share(model)
    warn_of_left(model, "exclude them, or make them known", ("parametrized", "subclass"))
    return model


def _check(name: str, layer: nn.Module) -> None:
    kind, weight = type(layer).__name__, weight_of(layer)
    if hasattr(weight, "__tensor_flatten__") or weight.layout != torch.strided:
        raise ValueError(
            f"the weight of layer {name!r} ({kind}) is a {type(weight).__name__}, quantized, sharded or sparse: adapt "
            "the model before, or exclude the layer"
        )
    row = LAYERS[kind_of(layer)]
    if adapted(row) is None:
        raise ValueError(
            f"layer {name!r} becomes a {row.__name__}, which does not define by_weight and by_factors and so cannot "
            "add a change to a weight; exclude it"
        )
    taken = [
        own for own in (*FROZEN, "kept", "cast") if own in layer.__dict__ or any(own in vars(layer)[h] for h in HELD)
    ]
    if taken:
        raise ValueError(
            f"layer {name!r} ({kind}) has an attribute {taken[0]!r} already, which an adapter needs for itself; rename "
            "it, or exclude the layer"
        )


def _named_parameters(model: nn.Module, trainable: Any, layers: Mapping[str, nn.Module]) -> set[int]:
    """Ids of the parameters that stay trainable; weights that get an adapter are not among them."""
    weights = {id(weight_of(layer)) for layer in layers.values()}
    named = {name: p for name, p in model.named_parameters(remove_duplicate=False) if id(p) not in weights}
    within = {name: {name.rsplit(".", up)[0] for up in range(name.count(".") + 1)} for name in named}
    known = list(dict.fromkeys(part for parts in within.values() for part in sorted(parts)))
    found = {part for entry in names_in(trainable, "trainable") for part in matching("trainable", entry, known)}
    return {id(named[name]) for name, parts in within.items() if parts & found}


def _start(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    shapes: Sequence[LayerShape],
    adapter: Adapter,
    seed: int,
    gradients: Mapping[str, Tensor] | None,
    splittings: Mapping[str, Splitting],
) -> list[LayerCores]:
    if adapter.start == "zero":
        generator = torch.Generator().manual_seed(seed)
        cores = [draw(shape, "orthogonal", generator) for shape in shapes]
    elif adapter.start == "pissa":
        cores = decomposed({name: _matrix(la, weight_of(la)) for name, la in layers.items()}, shapes, "adapt", "start")
        for core in cores:
            core.spectrum /= adapter.scale
    else:
        found = _gradients(model, layers, gradients, splittings)
        cores = decomposed({name: _matrix(layers[name], g) for name, g in found.items()}, shapes, "adapt", "start")
    if not adapter.residual:
        for core in cores:
            core.spectrum.zero_()
    return cores


def _gradients(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    given: Mapping[str, Tensor] | None,
    splittings: Mapping[str, Splitting],
) -> dict[str, Tensor]:
    known = {name for name, _ in model.named_modules()} | layers.keys()
    given = check_mapping("gradients", {} if given is None else given, "a mapping from names of layers to gradients")
    for name in given:
        if name not in known:
            raise ValueError(f"gradients names {shown(name)}, and the model has no such layer")
    pieces = {id(layer): _gradient_of(weight_of(layer), whole) for layer, whole in _pieces(splittings)}
    found = {}
    for name, layer in layers.items():
        gradient = given.get(name, pieces.get(id(layer), weight_of(layer).grad))
        if gradient is None:
            raise ValueError(
                f"start='gradient' needs the gradient of the loss at layer {name!r}: call backward() on a loss first, "
                "give gradients, or exclude the layer"
            )
        found[name] = check_tensor(f"the gradient of layer {name!r}", gradient, weight_of(layer).shape)
        if not found[name].any():
            raise ValueError(f"the gradient of layer {name!r} is zero, so it has no directions; exclude the layer")
    return found


def _pieces(splittings: Mapping[str, Splitting]) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Layers of modules that may be split, and the parameters that their weights are views of."""
    for splitting in splittings.values():
        for parameter, names in splitting.kind.pieces_of(splitting.module).items():
            whole = splitting.module._parameters[parameter]
            assert whole is not None
            yield from ((splitting.layers[name], whole) for name in names)


def _gradient_of(view: Tensor, whole: nn.Parameter) -> Tensor | None:
    """The part of a gradient that belongs to a view of the parameter."""
    if whole.grad is None:
        return None
    first = view.storage_offset() - whole.storage_offset()
    return whole.grad.reshape(-1)[first : first + view.numel()].view(view.shape)


@torch.no_grad()
def _rest(layer: Any, shape: LayerShape, cores: LayerCores, parts: Parts, options: Options) -> nn.Parameter:
    """What the first change leaves of the weight; the factors of that change go into `parts`."""
    assert options.adapter is not None
    assert parts.start_left is not None
    assert parts.start_right is not None
    weight, row = weight_of(layer), LAYERS[kind_of(layer)]
    left, right = (
        contract(train, [core.unsqueeze(0) for core in own], like=cores.spectrum)[0]
        for train, own in ((shape.left, cores.left), (shape.right, cores.right))
    )
    values = spectrum_values(options.spectrum, cores.spectrum.unsqueeze(0), options.bound)[0]
    parts.start_left.copy_(left * values * options.adapter.scale)
    parts.start_right.copy_(right)
    rest = residual(_matrix(layer, weight), parts.start_left, parts.start_right)
    return nn.Parameter(torch.empty_like(weight).copy_(row.from_matrix(layer, rest)), requires_grad=False)


def _matrix(layer: nn.Module, weight: Tensor) -> Tensor:
    return LAYERS[kind_of(layer)].to_matrix(weight.detach())
