"""W as users see it: a computed tensor that refuses writes, as they would be lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

SETS_FLAG = torch.Tensor.requires_grad.__set__  # type: ignore[attr-defined]
READS_FLAG = torch.Tensor.requires_grad.__get__  # type: ignore[attr-defined]
SETS_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]
COPIES = (torch.Tensor.__deepcopy__, torch.Tensor.__reduce_ex__)
HARMLESS = {"requires_grad_", "retain_grad", "__init__"}
IN_PLACE = {
    *("__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__imod__", "__ipow__"),
    *("__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__", "__idiv__", "__setitem__"),
}


class Writable(Protocol):
    """What a weight needs from its layer."""

    @property
    def trains(self) -> bool:
        """Whether a core or the spectrum takes gradients."""
        ...

    def freeze(self, frozen: bool = True) -> Any:
        """Freeze or unfreeze cores and spectrum."""
        ...

    def hook_weight(self, weight: Tensor, hook: Callable[[Tensor], Tensor | None]) -> Any:
        """Call a hook with the gradient of the weight, in later forwards, too."""
        ...


class SpectralWeight(Tensor):
    """The weight of a spectral layer: reads like any tensor, refuses writes.

    Writes to anything that shares its memory are refused, too. Its `requires_grad` reads and sets that of the layer's
    cores. Where the layer builds its weight, a hook on it stays for later forwards, as on a parameter.
    """

    layer: Callable[[], Writable | None]
    whole: bool

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Refuse operations that write, and pass on the rest."""
        kwargs = kwargs or {}
        weight = args[0] if args and isinstance(args[0], cls) else None
        if _writes(func, weight, kwargs, cls):
            raise RuntimeError(
                "the weight of a spectral layer is computed from its cores, so writing to it would be lost: "
                "assign a new tensor to layer.weight, call sr.set_weight(layer, tensor), or write into "
                "sr.decompress(model)"
            )
        with torch._C.DisableTorchFunctionSubclass():
            if weight is None:
                return func(*args, **kwargs)
            layer = weight.layer()
            if layer is not None and weight.whole:
                if func == READS_FLAG:
                    return weight.requires_grad or layer.trains
                if func == SETS_FLAG or func is Tensor.requires_grad_:
                    layer.freeze(not (args[1] if len(args) > 1 else kwargs.get("requires_grad", True)))
                    return weight
                if func is Tensor.register_hook:
                    return layer.hook_weight(weight, args[1] if len(args) > 1 else kwargs["hook"])
            if func in COPIES:
                args = (weight.detach().as_subclass(Tensor), *args[1:])
            result = func(*args, **kwargs)
            if type(result) is Tensor and _shares(result, weight):
                return guarded(result, weight.layer, whole=False)
            return result


def guarded(tensor: Tensor, layer: Callable[[], Writable | None], whole: bool = True) -> SpectralWeight:
    """Turn a tensor into a weight; it stays the same object, hence the same node of the graph.

    Parameters
    ----------
    tensor : Tensor
        The computed weight of a layer, or a view of it.
    layer : callable
        Weak reference to the layer.
    whole : bool
        Whether it is the weight itself, not a view.

    Returns
    -------
    SpectralWeight
        The same tensor.
    """
    tensor.__class__ = SpectralWeight
    tensor.layer, tensor.whole = layer, whole  # type: ignore[attr-defined]
    return tensor  # type: ignore[return-value]


def _writes(func: Any, weight: Tensor | None, kwargs: Mapping[str, Any], cls: type) -> bool:
    name = getattr(func, "__name__", "")
    if func == SETS_DATA or name in IN_PLACE:
        return weight is not None
    if name.endswith("_") and not name.endswith("__") and name not in HARMLESS:
        return weight is not None or any(isinstance(value, cls) for value in kwargs.values())
    return isinstance(kwargs.get("out"), cls)


def _shares(result: Tensor, weight: Tensor) -> bool:
    return bool(result.numel()) and result.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
