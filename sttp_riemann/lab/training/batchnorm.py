"""Batch normalization over all processes, so that results do not depend on their number."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def share_statistics(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Let every batch normalization of a model see the whole batch; does nothing in a single process.

    Parameters
    ----------
    model : nn.Module
        Changed in place; names of parameters and buffers stay.
    accelerator : Accelerator
        Device and processes.

    Returns
    -------
    nn.Module
        The model.
    """
    if accelerator.num_processes == 1:
        return model
    if accelerator.device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SharedBatchNorm.of(child))
    return model


class SharedBatchNorm(_BatchNorm):
    """`torch.nn.SyncBatchNorm` for the CPU; processes must have batches of equal size."""

    @classmethod
    def of(cls, norm: _BatchNorm) -> SharedBatchNorm:
        """Adopt parameters, buffers and settings."""
        shared = cls.__new__(cls)
        shared.__dict__ = norm.__dict__
        return shared

    def forward(self, input: Tensor) -> Tensor:
        """Normalize by mean and variance over all processes, or by the running ones in evaluation."""
        if not self.training:
            return super().forward(input)
        shape = [1, -1, *[1] * (input.ndim - 2)]
        others = [d for d in range(input.ndim) if d != 1]
        wide = input.float()
        mean = _mean_over_processes(wide.mean(others))
        centered = wide - mean.view(shape)
        variance = _mean_over_processes(centered.square().mean(others))
        self._track(mean.detach(), variance.detach(), input.numel() // input.shape[1])
        normal = centered * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions: the replaced module checked its own."""

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        total = count * torch.distributed.get_world_size()
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * total / (total - 1), share)


class _Sum(torch.autograd.Function):
    """Sum over all processes; its gradient is summed as well, since every process depends on all others."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(grad)
        return total


def _mean_over_processes(tensor: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(tensor)
    return total / torch.distributed.get_world_size()
