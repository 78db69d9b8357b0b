"""Change the ranks of layers in training: shrink by the spectrum, grow by the gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from sttp_riemann.checks import check_mapping, check_number, check_optimizer, check_tensor, check_whole
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.compression import other_numbers
from sttp_riemann.model.gathering import grouped_layers
from sttp_riemann.model.measures import finite_layers
from sttp_riemann.model.ranks import FALLBACK, Dimensions, Ranks, budget_ranks, given_ranks
from sttp_riemann.model.resizing import RankChanges, chain_of, resize
from sttp_riemann.model.weights import matching
from sttp_riemann.trains.bonds import lost_energies, widest
from sttp_riemann.trains.growth import extend
from sttp_riemann.trains.truncation import truncate

FACTOR, SMALLEST = "a number above 1, at most 1,000", math.nextafter(1, 2)
UNKNOWN = 1e9
"""Energy that a rank below the least one loses: more than there is."""


def shrink_ranks(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    rank: Ranks | None = None,
    energy: float | None = None,
    budget: float | None = None,
    least: int = 1,
) -> RankChanges:
    """Cut the ranks of layers by their spectra, in place; weights move by no more than what is cut.

    Layers keep identity, hooks, bias and options; their cores become new parameters. Give one of `rank`, `energy` and
    `budget`. Call it between a step of the optimizer and the next backward.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model whose spectra are learned or free.
    optimizer : Optimizer, optional
        Its groups get the new parameters in the places of the old ones, and its moments follow.
    rank : int, float or mapping
        Largest rank of a layer and of its bonds, as `reparameterize` takes it; layers that a mapping does not name stay
        as they are.
    energy : float
        Share, in (0, 1], of a layer's squared Frobenius norm: each layer gets the smallest rank at which the squares of
        all singular values that are cut, at the spectrum and at the inner bonds, are at most the rest of it.
    budget : float
        Largest share, in (0, 1], of the dense network's numbers, as in `reparameterize`: ranks stay where a number
        keeps most of its layer's energy.
    least : int
        With an energy or a budget: smallest rank of a layer.

    Returns
    -------
    RankChanges
        A row a layer, in the order of the model: ranks before and after, how far W moved, and what became of the
        optimizer's moments. Prints as a table.

    Raises
    ------
    TypeError
        The model is not a module, or the optimizer not one of torch's.
    ValueError
        The model has no reparameterized layer, or one that holds NaN; a layer that would change has an identity
        spectrum or frames off their manifold; an option is out of range; or the optimizer scales the entries of a
        Riemannian frame one by one. Nothing has changed then.

    Notes
    -----
    The error is that of TT-SVD (Oseledets 2011): its square is at most the sum of the squares of the values cut. With a
    learned spectrum whose inner bonds are cut, the largest value is then set back to the bound, which at most doubles
    the square. For how moments follow see `sttp_riemann.frames.carrying`.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), rank=8, spectrum="free")
    >>> with torch.no_grad():
    ...     _ = model.spectrum.copy_(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.1, 0.1, 0.1, 0.1]))
    >>> changes = sr.shrink_ranks(model, rank=4)
    >>> model.rank, changes.layers[0].moved < 1
    (4, True)
    """
    if sum(option is not None for option in (rank, energy, budget)) != 1:
        raise ValueError("give one of rank, energy and budget")
    least = check_whole("least", least, "a whole number above 0")
    groups, optimizer = checked(model, optimizer)
    layers = {name: twins[0] for name, twins in groups.items()}
    if rank is not None:
        wanted = _wanted(layers, rank)
        chains = {
            name: chain_of(name, layers[name]) for name, own in wanted.items() if own < widest(layers[name].shape)
        }
    else:
        chains = {name: chain_of(name, layer) for name, layer in layers.items()}
        lost = {name: lost_energies(chain).tolist() for name, chain in chains.items()}
        if energy is not None:
            energy = check_number("energy", energy, "a share above 0, at most 1", least=math.ulp(0), most=1)
            wanted = {name: _enough(own, 1 - energy, least) for name, own in lost.items()}
        else:
            assert budget is not None
            for own in lost.values():
                own[:] = [share + UNKNOWN * max(0, least - r) for r, share in enumerate(own, 1)]
            sizes = {name: dimensions_of(layer) for name, layer in layers.items()}
            wanted = budget_ranks(sizes, budget, other_numbers(model), lost=lost)
    changes = {}
    for name, chain in chains.items():
        shape = dimensions_of(layers[name]).shape(min(wanted[name], widest(layers[name].shape)))
        if shape != layers[name].shape:
            changes[name] = shape, truncate(chain, shape)
    return resize(model, groups, changes, optimizer)


def grow_ranks(
    model: nn.Module,
    gradients: Mapping[str, Tensor],
    optimizer: Optimizer | None = None,
    *,
    rank: Ranks | None = None,
    factor: float | None = None,
    step: float = 0.0,
) -> RankChanges:
    """Enlarge the ranks of layers by directions in which the gradient is largest, in place.

    Weights stay the same unless `step` is given: new singular values are 0, and their gradients are the largest that
    any directions outside the present spaces have. Layers keep identity, hooks, bias and options; their cores become
    new parameters. Give one of `rank` and `factor`.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model whose spectra are learned or free.
    gradients : mapping
        Layer name to dL/dW (d_out, d_in), as `weight_gradients` gathers them. Layers that it does not name stay as they
        are.
    optimizer : Optimizer, optional
        As `shrink_ranks` takes it.
    rank : int, float or mapping
        Smallest rank of a layer and of its bonds that the modes allow, as `shrink_ranks` takes it.
    factor : float
        Each layer's rank grows by this factor, by 1 at least.
    step : float
        Size of the new singular values as a share, in [0, 1], of the layer's largest. Above 0, W takes a step against
        the gradient, as long in all new directions. It is for layers that have learned nothing yet: a value that begins
        at 0 stays small beside those that are there, as an optimizer moves all of them alike.

    Returns
    -------
    RankChanges
        As `shrink_ranks` returns it.

    Raises
    ------
    TypeError
        The model is not a module, a gradient is not a tensor, or the optimizer is not one of torch's.
    ValueError
        As `shrink_ranks` raises it; a layer that `rank` names has no gradient; a gradient is of no layer, of another
        shape or not finite. Nothing has changed then.

    Notes
    -----
    Directions and pairs are those of `sttp_riemann.trains.growth.extend`. Schotthoefer et al. 2022, "Low-rank lottery
    tickets", let ranks of matrices grow by the gradient's range; trains take in such directions bond by bond.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), rank=4)
    >>> before = model.weight.detach().clone()
    >>> with sr.weight_gradients(model) as gradients:
    ...     model(torch.randn(16, 64)).square().mean().backward()
    >>> changes = sr.grow_ranks(model, gradients, rank=8)
    >>> model.rank, torch.allclose(model.weight, before, atol=1e-6)
    (8, True)
    """
    if (rank is None) == (factor is None):
        raise ValueError("give either a rank or a factor")
    groups, optimizer = checked(model, optimizer)
    step = check_number("step", step, "a share of at least 0, at most 1", least=0, most=1)
    layers = {name: twins[0] for name, twins in groups.items()}
    given = {}
    for name, gradient in check_mapping("gradients", gradients, "a mapping from names of layers to dL/dW").items():
        if name not in layers:
            raise ValueError(f"gradients names {name!r}, and the model has no such reparameterized layer")
        size = layers[name].shape.d_out, layers[name].shape.d_in
        given[name] = check_tensor(f"gradients[{name!r}]", gradient, size)
    if factor is not None:
        factor = check_number("factor", factor, FACTOR, SMALLEST, most=1000)
        wanted = {name: math.ceil(factor * widest(layers[name].shape)) for name in given}
    else:
        assert rank is not None
        wanted = _wanted(layers, rank)
    changes = {}
    for name, own in wanted.items():
        shape = dimensions_of(layers[name]).shape(max(own, widest(layers[name].shape)))
        if shape == layers[name].shape:
            continue
        if name not in given:
            raise ValueError(
                f"layer {name!r} is to grow, and gradients has none for it: run a backward that uses the layer inside "
                "sr.weight_gradients(model)"
            )
        chain = chain_of(name, layers[name])
        changes[name] = shape, extend(chain, shape, given[name].to(chain.values), step)
    return resize(model, groups, changes, optimizer)


def checked(
    model: nn.Module, optimizer: Optimizer | None
) -> tuple[dict[str, Sequence[SpectralLayer]], Optimizer | None]:
    """Layers of a model by name, those that share a weight together, and an optimizer.

    Parameters
    ----------
    model : nn.Module
        From a user.
    optimizer : Optimizer or None
        From a user.

    Returns
    -------
    tuple
        The layers, and the optimizer.

    Raises
    ------
    TypeError, ValueError
        As `shrink_ranks` raises it.
    """
    if optimizer is not None:
        optimizer = check_optimizer(optimizer, "a torch.optim.Optimizer or None")
    finite_layers(model)
    return grouped_layers(model), optimizer


def dimensions_of(layer: SpectralLayer) -> Dimensions:
    """What determines the shape of a layer at other ranks.

    Parameters
    ----------
    layer : SpectralLayer
        The layer.

    Returns
    -------
    Dimensions
    """
    options = layer.options
    identity = options.spectrum == "identity"
    return Dimensions(*layer.matrix_shape(layer), options.method, identity, options.kernel_modes)


def _wanted(layers: Mapping[str, SpectralLayer], rank: Ranks) -> dict[str, int]:
    """Ranks of the layers that an argument names."""
    names = list(layers)
    if isinstance(rank, Mapping):
        patterns = check_mapping("rank", rank, "a mapping from names of layers to ranks")
        found = {own for entry in patterns if entry != FALLBACK for own in matching("rank", entry, names)}
        names = names if FALLBACK in patterns else [name for name in names if name in found]
    return given_ranks({name: dimensions_of(layers[name]) for name in names}, rank)


def _enough(lost: Sequence[float], most: float, least: int) -> int:
    """Smallest rank that loses at most a share."""
    return max(least, next(r for r, share in enumerate(lost, 1) if share <= most))
