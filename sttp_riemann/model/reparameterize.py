"""Turn a model's layers into spectral ones, and turn them back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sttp_riemann.batch.cached import share, unshare
from sttp_riemann.checks import check_choice, check_flag, check_kind, check_mapping, check_tensor, check_whole, shown
from sttp_riemann.frames import FRAMES, frames_kind
from sttp_riemann.layers import LAYERS, Split, kind_of
from sttp_riemann.layers.options import Options
from sttp_riemann.layers.recompute import RECOMPUTE, Recompute, check_memory
from sttp_riemann.model.compression import other_numbers
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.model.parts import Parts, initial_bound, relative_error, weighed
from sttp_riemann.model.ranks import Dimensions, Ranks, budget_ranks, given_ranks
from sttp_riemann.model.reach import warn_of_left
from sttp_riemann.model.readers import read_layers
from sttp_riemann.model.selection import select_layers, spectral_names, weight_of, without_zeros
from sttp_riemann.model.splitting import split, splittings_in
from sttp_riemann.model.starting import decomposed
from sttp_riemann.trains.shape import KERNEL_MODES, METHODS, KernelModes, LayerShape, Method
from sttp_riemann.trains.spectrum import BOUNDS_OF, SPECTRA, BoundOf, SpectrumKind, check_bound
from sttp_riemann.trains.start import INITS, LayerCores, draw
from sttp_riemann.trains.svd import moment_root

Init = Literal["orthogonal", "noisy_identity", "identity", "dense"]


def reparameterize(
    model: nn.Module,
    rank: Ranks | None = None,
    method: Method = "sttp",
    frames: str = "riemannian",
    spectrum: SpectrumKind = "learned",
    init: Init = "orthogonal",
    exclude: str | Sequence[str] = (),
    seed: int = 0,
    *,
    budget: float | None = None,
    kernel_modes: KernelModes = "flat",
    spectral_bound: float | Literal["initial"] | None = None,
    bound_of: BoundOf = "matrix",
    moments: Mapping[str, Tensor] | None = None,
    recompute: Recompute = "auto",
    memory: float = 1.0,
    pivots: bool = True,
) -> nn.Module:
    """Write the weights of linear layers, convolutions and embeddings as W = U diag(s) V^T, in place.

    Parameters
    ----------
    model : nn.Module
        Changed in place: weights become cores, which each layer owns as ``left``, ``spectrum`` and ``right``;
        everything else stays: layers that are already reparameterized, and frozen weights unless all are frozen.
        `compression` tells what was reached. Create optimizers afterwards.
    rank : int, float or mapping
        Largest rank of a layer and of a tensor train bond; a fraction in (0, 1] of each layer's full rank, which
        truncates nothing; or a mapping to either from layer names, names of modules that contain layers, or patterns:
        the first match wins, and ``"*"`` stands for the layers that nothing else matches. Give either this or `budget`.
    method : {"sttp", "svdp"}
        U and V as tensor trains of orthonormal cores, or as one orthonormal matrix each.
    frames : {"riemannian", "householder"}
        Cores as geoopt Stiefel parameters, for `RiemannianAdam`; or as Householder reflectors, for any optimizer.
    spectrum : {"learned", "identity", "free"}
        s = S / max|S|, s = 1, or s = S.
    init : {"orthogonal", "noisy_identity", "identity", "dense"}
        Initialization of the frames: uniformly random; near the identity, as in the paper, which lets a convolution see
        few of its input channels; the identity; "dense" keeps the present weights as well as the ranks allow.
    exclude : str or sequence of str
        Layers to leave dense: names, names of modules that contain them, or patterns with ``*``.
    seed : int
        Seed of the random initialization. The same seed gives the same weights for every kind of frame.
    budget : float, optional
        Instead of `rank`: largest share, in (0, 1], of the dense network's numbers to keep; the ratio of `compression`
        is then at most 100 times that. With ``init="dense"`` ranks go where they keep most of the weights; otherwise
        all layers get about the same share of their numbers.
    kernel_modes : {"flat", "prime"}
        Kernel positions as one mode of the train, or each side of the kernel factorized.
    spectral_bound : float or "initial", optional
        Largest singular value of a layer with a learned or identity spectrum. The default is 1, which makes each layer
        1-Lipschitz as a matrix; with ``init="dense"`` and a learned spectrum it is "initial": that of each layer's
        present weight, which is then saved with the layer's state; 1 where another `init` replaces the weight.
    bound_of : {"matrix", "operator"}
        What `spectral_bound` bounds: the largest singular value of W, or the norm of the layer as an operator on whole
        maps, which of a convolution is larger. With "operator", the singular values are divided by a certified upper
        bound of that norm in every forward, and the gradient knows of it. Other layers are bounded as matrices.
    moments : mapping, optional
        With ``init="dense"``: second moments of layers' inputs, as `input_moments` measures them. Cores and the ranks
        of a budget then preserve the layers' outputs instead of their weights, and the reported layer error is that of
        the outputs. Layers without a moment are treated as without `moments`.
    recompute : {"auto", "always", "never"}
        Whether a layer recomputes V^T x in the backward instead of keeping it: less memory, for up to a quarter more
        time. "auto" does so in the layers where it costs least per byte, and in no more of them than `memory` takes.
    memory : float
        With ``recompute="auto"``: share of the memory of the dense network's training step to stay within, as far as
        computing V^T x again reaches. It is estimated from what the graphs of the first step are seen to keep, without
        the optimizer's moments.
    pivots : bool
        Whether any rows of Householder frames may lead, chosen at the start and by `gauge_fix`. False as in the paper:
        the first rows lead, and training may get stuck where their block becomes singular. Riemannian frames ignore it
        until they are converted.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    TypeError
        If `model` is not a module, or a moment is not a tensor.
    ValueError
        If an option is unknown or out of range, a name in `exclude` or `rank` matches no layer that can be changed, the
        budget is too small for rank 1 everywhere, there is no layer to change, a weight cannot be replaced, or a moment
        does not fit. The model is then unchanged.

    Notes
    -----
    Obukhov et al. 2021, "Spectral Tensor Train Parameterization of Deep Learning Layers".

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.Flatten(), torch.nn.Linear(2304, 10))
    >>> model = sr.reparameterize(model, rank={"0": 8, "*": 4}, exclude=())
    >>> {name: layer.rank for name, layer in model.named_children() if hasattr(layer, "rank")}
    {'0': 8, '2': 4}
    >>> model(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 10])

    With ``init="dense"`` the original weights are kept, as well as the rank allows:

    >>> linear = torch.nn.Linear(64, 32)
    >>> before = linear.weight.detach().clone()
    >>> linear = sr.reparameterize(linear, rank=1.0, init="dense")
    >>> torch.allclose(linear.weight, before, atol=1e-5)
    True
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    if (rank is None) == (budget is None):
        raise ValueError("give either a rank or a budget")
    check_choice("method", method, METHODS)
    check_choice("frames", frames, tuple(FRAMES))
    check_choice("spectrum", spectrum, SPECTRA)
    check_choice("init", init, INITS)
    check_choice("kernel_modes", kernel_modes, KERNEL_MODES)
    check_choice("recompute", recompute, RECOMPUTE)
    memory = check_memory(memory, recompute)
    pivots = check_flag("pivots", pivots)
    seed = check_whole("seed", seed, "a whole number of 64 bits", least=-(2**63), most=2**64 - 1)
    if spectral_bound is None:
        spectral_bound = "initial" if init == "dense" and spectrum == "learned" else 1.0
    check_bound("spectral_bound", spectral_bound)
    check_choice("bound_of", bound_of, BOUNDS_OF)
    if bound_of == "operator" and spectrum == "free":
        raise ValueError(
            "bound_of='operator' bounds nothing with a free spectrum: set spectrum='learned' or 'identity'"
        )
    splittings = splittings_in(model)
    found = select_layers(model, exclude, splittings)
    if init == "dense" and spectrum == "learned":
        found = without_zeros(found)
    layers = {name: twins[0] for name, twins in found.items()}
    roots = _roots(model, layers, {} if moments is None else moments, init)
    dimensions = {
        name: Dimensions(*LAYERS[kind_of(layer)].matrix_shape(layer), method, spectrum == "identity", kernel_modes)
        for name, layer in layers.items()
    }
    if budget is None:
        assert rank is not None
        ranks = given_ranks(dimensions, rank, done=list(spectral_names(model)))
    else:
        other = other_numbers(model) - sum(d.numbers for d in dimensions.values())
        weights = (
            {name: weighed(_matrix(layer), roots.get(name)) for name, layer in layers.items()}
            if init == "dense"
            else None
        )
        ranks = budget_ranks(dimensions, budget, other, weights)
    shapes = [dimensions[name].shape(rank) for name, rank in ranks.items()]
    cores = _start(layers, shapes, roots, init, seed)
    _check_twins(found, bound_of)
    measured = bound_of == "operator" and init == "dense" and spectral_bound == "initial"
    places = [LAYERS[kind_of(layer)].places(layer) if measured else None for layer in layers.values()]
    bounds = [initial_bound(*own, spectral_bound) for own in zip(shapes, cores, places, strict=True)]
    room = sum(shape.saving for shape in shapes) / len(shapes)
    made = []
    for name, shape, core, bound in zip(layers, shapes, cores, bounds, strict=True):
        options = Options(
            method, spectrum, bound, spectral_bound == "initial", kernel_modes, init, pivots, bound_of=bound_of
        )
        own = Parts(layers[name], shape, options, frames_kind(frames, pivots), core)
        error = None
        if init == "dense":
            error = relative_error(shape, core, options, layers[name], _matrix(layers[name]), roots.get(name))
        about: dict[str, Any] = {"options": options, "recompute": recompute, "memory": memory, "room": room}
        about["dense_error"] = error
        made.append({**about, "shape": shape, "left": own.left, "spectrum": own.spectrum, "right": own.right})
    # Nothing can fail from here on
    for twins, new in zip(found.values(), made, strict=True):
        for layer in twins:
            LAYERS[kind_of(layer)].adopt(layer, **new)
    split(splittings, [layer for twins in found.values() for layer in twins])
    share(model)
    warn_of_left(model, "print(sr.compression(model)) lists all")
    return model


def decompress(model: nn.Module, factored: bool = False) -> nn.Module:
    """Copy a model, replacing reparameterized layers by ordinary ones.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model; not changed.
    factored : bool
        For inference: where two thin layers in sequence (V^T, then U diag(s)) have fewer numbers than the dense one,
        use an `nn.Sequential` of them. Calls then build nothing. A layer stays one where a module that contains it
        reads its attributes, such as ``self.proj.weight``.

    Returns
    -------
    nn.Module
        A new model with the same outputs that no longer depends on this package.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If the model has no reparameterized layer, or `factored` is neither True nor False.

    Notes
    -----
    W = U diag(s) V^T, Obukhov et al. 2021, Section 3.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Sequential(torch.nn.Linear(64, 32)), rank=4)
    >>> sr.decompress(model)
    Sequential(
      (0): Linear(in_features=64, out_features=32, bias=True)
    )
    >>> inputs = torch.randn(8, 64)
    >>> torch.allclose(sr.decompress(model, factored=True)(inputs), model(inputs), atol=1e-5)
    True
    """
    spectral_layers(model)
    factored = check_flag("factored", factored)
    dense = copy.deepcopy(model)
    layers = spectral_layers(dense)
    read = read_layers(dense) if factored else set()
    free = {name: layer for name, layer in layers.items() if factored and id(layer) not in read}
    thin = {name: pair for name, layer in free.items() if (pair := layer.thin_layers()) is not None}
    weights: dict[int, nn.Parameter] = {}
    for layer in layers.values():
        if id(layer.left) not in weights:
            weights[id(layer.left)] = nn.Parameter(layer.dense_weight(), layer.trains)
    unshare(dense)
    for layer in layers.values():
        layer.release(weights[id(layer.left)])
    for module in [module for module in dense.modules() if isinstance(module, Split)]:
        module.release()
    for name, pair in thin.items():
        _take_hooks(pair, layers[name])
        if not name:
            return pair
        parent, _, child = name.rpartition(".")
        setattr(dense.get_submodule(parent), child, pair)
    return dense


HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks"),
    *("_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook"),
)


def _take_hooks(new: nn.Module, old: nn.Module) -> None:
    """Move the hooks of a module to its replacement."""
    for name in HOOKS:
        setattr(new, name, getattr(old, name))


def _roots(
    model: nn.Module, layers: dict[str, nn.Module], moments: Mapping[str, Tensor], init: str
) -> dict[str, Tensor]:
    moments = check_mapping("moments", moments, "a mapping from names of layers to second moments of their inputs")
    if moments and init != "dense":
        raise ValueError("moments weight the approximation of a dense weight: they need init='dense'")
    known = dict(model.named_modules())
    roots = {}
    for name, moment in moments.items():
        if name not in known and name not in layers:
            raise ValueError(f"moments names {shown(name)}, and the model has no such layer")
        check_tensor(f"the moment of layer {name!r}", moment)
        if name not in layers:
            continue
        columns = _matrix(layers[name]).shape[1]
        if moment.shape != (columns, columns):
            raise ValueError(f"the moment of layer {name!r} is {tuple(moment.shape)}, not {(columns, columns)}")
        try:
            roots[name] = moment_root(moment.cpu())
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}; measure it on other inputs, or leave it out") from error
    return roots


def _start(
    layers: dict[str, nn.Module], shapes: Sequence[LayerShape], roots: Mapping[str, Tensor], init: Init, seed: int
) -> list[LayerCores]:
    generator = torch.Generator().manual_seed(seed)
    if init != "dense":
        return [draw(shape, init, generator) for shape in shapes]
    matrices = {name: _matrix(layer) for name, layer in layers.items()}
    return decomposed(matrices, shapes, "reparameterize", "init", roots)


def _check_twins(found: Mapping[str, list[nn.Module]], bound_of: str) -> None:
    """Refuse layers that share a weight and not the norm of an operator."""
    for name, twins in found.items():
        if bound_of == "operator" and len({LAYERS[kind_of(layer)].places(layer) for layer in twins}) > 1:
            raise ValueError(
                f"layer {name!r} shares its weight with one of another stride, dilation, padding or kernel, so the "
                "operators have several norms: exclude it, or set bound_of='matrix'"
            )


def _matrix(layer: nn.Module) -> Tensor:
    return LAYERS[kind_of(layer)].to_matrix(weight_of(layer).detach())
