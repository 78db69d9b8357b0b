"""What the calls of the fuzzer are made with, and how it looks before and after."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

import sttp_riemann as sr
from sttp_riemann.model.rank_schedule import RankChangeHandle


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))


class Pretrained:
    """Makes models as classes of transformers do."""

    @classmethod
    def from_pretrained(cls, folder: Any, output_loading_info: bool, **kwargs: Any) -> tuple[nn.Module, dict[str, Any]]:
        return dense(), {"missing_keys": [], "unexpected_keys": []}


class World:
    """A dense model, a reparameterized one, its optimizer after a step, its average; each made when it is asked for.

    Parameters
    ----------
    frames, spectrum : str
        Of the reparameterized models.
    kind : type
        Of the optimizer.
    """

    def __init__(self, frames: str, spectrum: str, kind: type[Optimizer]) -> None:
        self.frames, self.spectrum, self.kind = frames, spectrum, kind

    @functools.cached_property
    def dense(self) -> nn.Sequential:
        return dense()

    @functools.cached_property
    def model(self) -> nn.Module:
        model = self.another(0)
        model[0].application = "weight"  # hooks on a weight are called only there
        return model

    @functools.cached_property
    def adapted(self) -> nn.Module:
        return sr.adapt(dense(), 3, frames=self.frames)

    @functools.cached_property
    def optimizer(self) -> Optimizer:
        """Steps the model, but for its batch norm."""
        kept = [p for name, p in self.model.named_parameters() if not name.startswith("1.")]
        optimizer = self.kind(kept, lr=0.01)
        self.model(torch.ones(2, 6)).square().sum().backward()
        optimizer.step()
        return optimizer

    @functools.cached_property
    def average(self) -> nn.Module:
        return sr.averaged(self.model)

    @functools.cached_property
    def saved(self) -> Path:
        """A file of the model, in a folder below the present one."""
        path = Path("saved", "model.safetensors")
        path.parent.mkdir(exist_ok=True)
        sr.save(self.model, path)
        return path

    @property
    def layer(self) -> nn.Module:
        return self.model[0]  # type: ignore[index]

    @functools.cached_property
    def spare(self) -> nn.Parameter:
        return nn.Parameter(torch.ones(3))

    def another(self, seed: int = 1, **options: Any) -> nn.Module:
        return sr.reparameterize(
            dense(), 3, init="orthogonal", seed=seed, **{"frames": self.frames, "spectrum": self.spectrum, **options}
        )

    def poisoned(self) -> nn.Module:
        """A model with NaN in a frame of its last layer."""
        model = self.another()
        with torch.no_grad():
            next(iter(model[-1].right.parameters())).fill_(float("nan"))  # type: ignore[index, union-attr]
        return model


def watched(world: World, arguments: Mapping[str, Any]) -> list[Any]:
    """Modules and optimizers that a call could change."""
    found = [value for name, value in vars(world).items() if name not in ("frames", "spectrum", "kind")]
    return [
        *found,
        *(value for value in arguments.values() if isinstance(value, nn.Module | Optimizer | Tensor | dict)),
    ]


def snapshot(values: Sequence[Any]) -> list[Any]:
    """Everything that a refused call must leave as it was, as plain data that compares equal if it is."""
    return [_picture(value) for value in values]


def _picture(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return [_module(name, module) for name, module in value.named_modules()]
    if isinstance(value, Optimizer):
        state = [(id(p), _plain(own)) for p, own in value.state.items()]
        hooks = [_plain(own) for name, own in vars(value).items() if name.endswith("_hooks")]
        return type(value), _plain(value.param_groups), state, _plain(value.defaults), hooks
    return _plain(value)


def _module(name: str, module: nn.Module) -> Any:
    # What the last call chose is a cache
    left_out = ("_parameters", "_buffers", "chosen")
    own = {key: _plain(value) for key, value in vars(module).items() if key not in left_out}
    tensors = {**module._parameters, **module._buffers}
    return name, id(module), type(module), own, {key: _plain(value) for key, value in tensors.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (
            id(value),
            type(value),
            value.requires_grad,
            _bits(value),
            _bits(value.grad) if value.is_leaf and value.grad is not None else None,
        )
    if isinstance(value, Mapping):
        return [(_plain(key), _plain(own)) for key, own in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    return value if isinstance(value, str | int | bool | type(None)) else id(value)


def _bits(tensor: Tensor) -> Any:
    facts = tuple(tensor.shape), tensor.dtype, tensor.device
    if tensor.device.type == "meta" or tensor.layout != torch.strided:
        return facts
    return *facts, tensor.detach().as_subclass(Tensor).contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def tidy(result: Any) -> None:
    """End what a call began."""
    if isinstance(result, RemovableHandle | RankChangeHandle):
        result.remove()


def generator(*values: Any) -> Iterator[Any]:
    yield from values


NUMPY = {"int": np.int64(3), "float": np.float32(0.5), "nan": np.float64("nan"), "text": np.str_("svdp")}
