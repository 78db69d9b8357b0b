"""Results that several forward passes share: built once, valid until what they were built from changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

Build = Callable[..., Sequence[Tensor]]


class _Shared(torch.autograd.Function):
    """A part of the graph that may be walked back through any number of times.

    Autograd frees a graph after one backward. What is shared by two losses, each with a backward of its own, must
    outlive the first: the inner graph is kept here for as long as its outputs are. Activation checkpointing and the
    like, which look after what is saved meanwhile, must not see it: a second forward finds it there, and saves nothing.
    """

    @staticmethod
    def forward(ctx: Any, build: Build, *inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad(), saved_tensors_hooks(_as_it_is, _as_it_is):
            ctx.leaves = [t.detach().requires_grad_(t.requires_grad) for t in inputs]
            ctx.results = tuple(build(*ctx.leaves))
        ctx.build, ctx.inputs = build, inputs
        # What nobody used needs no gradient of zeros
        ctx.set_materialize_grads(False)
        return tuple(r.detach() for r in ctx.results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        create_graph = torch.is_grad_enabled()
        if create_graph:
            sources, results = list(ctx.inputs), tuple(ctx.build(*ctx.inputs))
        else:
            sources, results = ctx.leaves, ctx.results
        wanted = [t for t in sources if t.requires_grad]
        pairs = [(r, g) for r, g in zip(results, grads, strict=True) if r.requires_grad and g is not None]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in pairs],
                wanted,
                [g for _, g in pairs],
                retain_graph=True,
                create_graph=create_graph,
                allow_unused=True,
                materialize_grads=True,
            )
        )
        # Contiguous, as DistributedDataParallel wants the gradients of parameters.
        return None, *(next(found).contiguous() if t.requires_grad else None for t in sources)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def in_transform() -> bool:
    """Whether a compiler or a functorch transform looks on, so that nothing may be kept from one call to the next."""
    return torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None


class Reusable:
    """The outputs of `build`, kept while its inputs are the same tensors at the same version.

    Any change through autograd's version counter (an optimizer's step, ``load_state_dict``, ``copy_``) makes the
    next call build anew, as does an in-place change of an output. Writing through ``tensor.data`` goes unseen.

    Parameters
    ----------
    build : callable
        Pure function from tensors to a sequence of tensors.
    arrange : callable, optional
        What to hand out instead of the outputs, made of views of them; kept with them.
    """

    def __init__(self, build: Build, arrange: Callable[[tuple[Tensor, ...]], Any] = lambda outputs: outputs) -> None:
        self.build, self.arrange = build, arrange
        self.clear()

    def clear(self) -> None:
        """Forget what was built."""
        self._inputs: tuple[Tensor, ...] = ()
        self._versions: tuple[int, ...] = ()
        self._outputs: tuple[Tensor, ...] = ()
        self._arranged: Any = None
        self._wanted: tuple[bool, ...] = ()
        self._inference = False

    def __call__(self, *inputs: Tensor) -> Any:
        """Outputs of `build`, arranged; differentiable where gradients are on."""
        if in_transform():
            return self.arrange(tuple(self.build(*inputs)))
        wanted = tuple(t.requires_grad and torch.is_grad_enabled() for t in inputs)
        if not self._valid(inputs, wanted):
            self.clear()  # frees the old outputs before the new ones are made
            self._outputs = _Shared.apply(self.build, *inputs) if any(wanted) else tuple(self.build(*inputs))
            self._arranged = self.arrange(self._outputs)
            self._inputs, self._wanted = inputs, wanted
            self._versions = _versions(inputs + self._outputs)
            self._inference = torch.is_inference_mode_enabled()
        return self._arranged

    def _valid(self, inputs: tuple[Tensor, ...], wanted: tuple[bool, ...]) -> bool:
        return (
            len(inputs) == len(self._inputs)
            and all(a is b for a, b in zip(inputs, self._inputs, strict=True))
            # Without gradients, what was built with them serves as well.
            and (self._wanted == wanted or not torch.is_grad_enabled())
            and self._inference == torch.is_inference_mode_enabled()
            and self._versions == _versions(inputs + self._outputs)
        )


def _versions(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(0 if t.is_inference() else t._version for t in tensors)
