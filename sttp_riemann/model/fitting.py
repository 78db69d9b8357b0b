"""Make the layers of a model what a file tells, after checking that all of them fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.batch.cached import share
from sttp_riemann.errors import CheckpointError
from sttp_riemann.frames import frames_kind
from sttp_riemann.frames.frame import wide_dtype
from sttp_riemann.layers import LAYERS, Adapted, SpectralLayer, adapted, kind_of, row_for
from sttp_riemann.layers.adapted import FROZEN, MERGED, residual
from sttp_riemann.layers.told import Told
from sttp_riemann.model.parts import Parts, frozen_base
from sttp_riemann.model.ranks import Dimensions
from sttp_riemann.model.reach import is_subclass
from sttp_riemann.model.selection import grouped, weight_of
from sttp_riemann.model.splitting import split, splittings_in
from sttp_riemann.model.stored import EXTRA, Stored, owner_of, under
from sttp_riemann.trains.shape import LayerShape

REBUILD = "build the model as it was when it was saved"
RECAST = "load into a model of that dtype and cast it then"


@dataclass
class Change:
    """What turns layers that share a weight into spectral ones.

    Attributes
    ----------
    layers : list of nn.Module
        Ordinary layers.
    shape : LayerShape
        Theirs.
    parts : Parts
        Their frames and spectrum, without numbers.
    """

    layers: list[nn.Module]
    shape: LayerShape
    parts: Parts


class Fit:
    """A model that a file fits, with all that has to change in it; nothing has changed yet.

    Parameters
    ----------
    model : nn.Module
        Dense, or reparameterized as the file tells.
    stored : Stored
        The file.

    Attributes
    ----------
    layers : dict[str, nn.Module]
        Those that the file tells, by every name that they have in the model.
    changes : list of Change
        Of those that are dense.
    pieces : dict[str, nn.Module]
        Layers that stay dense of modules that are going to be split, by every name that they will have.
    replaced : set of str
        Names of the present state that other names replace.

    Raises
    ------
    CheckpointError
        A layer does not fit; the message names it.
    """

    def __init__(self, model: nn.Module, stored: Stored) -> None:
        self.model, self.stored = model, stored
        every = dict(model.named_modules(remove_duplicate=False))
        self._splittings = splittings_in(model)
        for name, splitting in self._splittings.items():
            every |= splitting.named(name)
        for name in stored.layers:
            if name not in every:
                raise self.error(name, f"is in the file, and the model has no such layer; {REBUILD}")
        self._told = {id(every[name]): name for name in reversed(stored.layers)}
        self.layers = {name: layer for name, layer in every.items() if id(layer) in self._told}
        for name, layer in every.items():
            if isinstance(layer, SpectralLayer) and name not in self.layers:
                raise self.error(name, "is reparameterized here and dense in the file; load into a fresh dense model")
        for name, layer in self.layers.items():
            if stored.layers.get(name, self.told(layer)) != self.told(layer):
                raise self.error(name, f"is another layer, too, and the file tells two kinds of it; {REBUILD}")
            if isinstance(layer, SpectralLayer):
                self._check_alike(name, layer)
        first = {id(layer): name for name, layer in reversed(self.layers.items())}
        dense = {n: m for n, m in self.layers.items() if first[id(m)] == n and not isinstance(m, SpectralLayer)}
        shapes = {name: self._shape(name, layer) for name, layer in dense.items()}
        try:
            groups = grouped(model, dense, self._splittings)
        except ValueError as error:
            raise CheckpointError(f"{stored.where}: {error}") from error
        self.changes = [self._change(name, twins, shapes[name]) for name, twins in groups.items()]
        self._changes = {id(layer): change for change in self.changes for layer in change.layers}
        ids = {id(layer) for layer in dense.values()}
        met = {name: splitting for name, splitting in self._splittings.items() if splitting.meets(ids)}
        own = {part: layer for name, splitting in met.items() for part, layer in splitting.named(name).items()}
        self.pieces = {name: layer for name, layer in own.items() if id(layer) not in ids}
        self.replaced = {under(name, "weight") for name, layer in self.layers.items() if id(layer) in ids}
        self.replaced |= {under(name, part) for name, s in met.items() for part in s.kind.pieces_of(s.module)}

    def error(self, name: str, what: str) -> CheckpointError:
        """An error that names the file and a layer."""
        return CheckpointError(f"{self.stored.where}: layer {name!r} {what}")

    def told(self, layer: nn.Module) -> Told:
        """What the file tells of a layer."""
        return self.stored.layers[self._told[id(layer)]]

    def check_dtypes(self) -> None:
        """Refuse weights of another dtype: frames do not show it, as they are in float32 where the weight is narrower.

        Raises
        ------
        CheckpointError
            The message names the layer.
        """
        for name, layer in self.layers.items():
            own = layer.weight_dtype if isinstance(layer, SpectralLayer) else layer._parameters["weight"].dtype
            here, there = (None if own == wide_dtype(own) else own), self.told(layer).dtype
            if here != there:
                texts = (dtype or "float32 or wider" for dtype in (there, here))
                raise self.error(name, "is {} in the file and {} here; {}".format(*texts, RECAST))

    def state_of(self, layer: nn.Module) -> Tensor:
        """The options of a layer as the file has them in its state."""
        return self.stored.tensors[under(self._told[id(layer)], EXTRA)]

    def without_start(self, name: str, weight: Tensor) -> Tensor:
        """The frozen weight of an adapter from the pretrained one, where the first change was taken off.

        Parameters
        ----------
        name : str
            In the state.
        weight : Tensor
            What the model has there.

        Returns
        -------
        Tensor
            The same for every other name.
        """
        owner = owner_of(name, self.layers)
        change = None if owner is None else self._changes.get(id(self.layers[owner]))
        if owner is None or change is None:
            return weight
        layer: Any = change.layers[0]
        shape, adapter = change.shape, self.told(layer).options.adapter
        if adapter is None or not adapter.residual:
            return weight
        start = [self.stored.tensors.get(under(owner, part), weight) for part in FROZEN[1:]]
        if [tuple(own.shape) for own in start] != [(shape.d_out, shape.rank), (shape.d_in, shape.rank)]:
            raise self.error(owner, "has no start that fits; save the model again")
        left, right = (own.to(weight.device) for own in start)
        row = LAYERS[kind_of(layer)]
        return torch.empty_like(weight).copy_(row.from_matrix(layer, residual(row.to_matrix(weight), left, right)))

    def slots(self) -> dict[str, Tensor]:
        """The state that the model is going to have; tied names have one tensor."""
        state: dict[str, Tensor] = self.model.state_dict(keep_vars=True)
        for name in self.replaced:
            state.pop(name, None)
        state.update({under(name, "weight"): weight_of(layer) for name, layer in self.pieces.items()})
        for name, layer in self.layers.items():
            if id(layer) in self._changes:
                own = self._changes[id(layer)].parts.state_dict(keep_vars=True)
                state.update({under(name, part): tensor for part, tensor in own.items()})
                state[under(name, EXTRA)] = torch.empty(0)
                if self.told(layer).options.adapter is not None:
                    state[under(name, "base")] = weight_of(layer)
        return state

    def apply(self) -> None:
        """Change the layers; frames and spectra have memory on the device of the weight then, and no numbers yet."""
        for change in self.changes:
            weight = weight_of(change.layers[0])
            parts = change.parts.to_empty(device=weight.device)
            adapter, start = self.told(change.layers[0]).options.adapter, (parts.start_left, parts.start_right)
            more: dict[str, Any] = {} if adapter is None else {"base": frozen_base(weight), "start": start}
            for layer in change.layers:
                row = LAYERS[kind_of(layer)]
                kind: type[SpectralLayer] | None = row if adapter is None else adapted(row)
                assert kind is not None
                kind.adopt(
                    layer,
                    parts.left,
                    parts.spectrum,
                    parts.right,
                    options=self.told(layer).options,
                    shape=change.shape,
                    recompute="auto",
                    memory=1.0,
                    room=sum(own.shape.saving for own in self.changes) / len(self.changes),
                    dense_error=None,
                    **more,
                )
        split(self._splittings, self.layers.values())
        for layer in {id(layer): layer for layer in self.layers.values()}.values():
            assert isinstance(layer, SpectralLayer)
            layer.options = self.told(layer).options
            settings = self.stored.settings.get(self._told[id(layer)])
            if settings is not None:
                layer.application, layer.recompute = settings.application, settings.recompute
                layer.memory, layer.room, layer.dense_error = settings.memory, settings.room, settings.dense_error
        share(self.model)

    def _check_alike(self, name: str, layer: SpectralLayer) -> None:
        if isinstance(layer, Adapted) and layer.kept is not None:
            raise self.error(name, f"cannot be loaded into: {MERGED}")
        difference = layer.options.difference(layer.shape, layer.frames, self.state_of(layer))
        if difference is not None:
            raise self.error(name, f"does not fit: {difference}; load into a fresh dense model")
        self._check_weight(name, layer, layer.from_matrix(layer._empty_matrix()))

    def _check_weight(self, name: str, layer: nn.Module, weight: Tensor | None) -> None:
        settings = self.stored.settings.get(self._told[id(layer)])
        if settings is not None and weight is not None:
            self._check_sizes(name, "its weight is", tuple(weight.shape), settings.weight)

    def _shape(self, name: str, layer: nn.Module) -> LayerShape:
        told = self.told(layer)
        if row_for(kind_of(layer)) is None:
            kind = type(layer).__name__
            remedy = f"call sr.register_layer({kind}) first" if is_subclass(layer) else REBUILD
            raise self.error(name, f"is a {kind} here, which stays dense; {remedy}")
        if self.told(layer).options.adapter is not None and adapted(LAYERS[kind_of(layer)]) is None:
            raise self.error(name, f"is a {type(layer).__name__} here, which cannot have an adapter; {REBUILD}")
        weight = layer._parameters.get("weight")
        if hasattr(weight, "__tensor_flatten__"):
            raise self.error(name, f"has a {type(weight).__name__} as weight; load before it is sharded or quantized")
        self._check_weight(name, layer, weight)
        options = told.options
        sizes = LAYERS[kind_of(layer)].matrix_shape(layer)
        identity = options.spectrum == "identity"
        shape = Dimensions(*sizes, options.method, identity, options.kernel_modes).shape(max(told.ranks))
        self._check_sizes(name, "modes are", shape.modes, told.modes)
        self._check_sizes(name, "ranks are", shape.ranks, told.ranks)
        return shape

    def _check_sizes(self, name: str, what: str, here: tuple[int, ...], there: tuple[int, ...]) -> None:
        if here != there:
            texts = ("-".join(map(str, sizes)) for sizes in (there, here))
            raise self.error(name, "does not fit: {} {} in the file and {} here; {}".format(what, *texts, REBUILD))

    def _change(self, name: str, twins: list[nn.Module], shape: LayerShape) -> Change:
        told = self.told(twins[0])
        if any(self.told(twin) != told for twin in twins):
            raise self.error(name, f"shares its weight with another layer here and not in the file; {REBUILD}")
        kind = frames_kind(told.frames, told.options.pivots)
        return Change(twins, shape, Parts(twins[0], shape, told.options, kind))
