"""Statistics of a batch over all processes that share it, so that two processes learn what one would."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

__all__ = ["share_batch_norm"]


def share_batch_norm(module: nn.Module, *, cuda: bool) -> nn.Module:
    """Make the batch norms of a module see the batches of all processes; names of weights stay.

    Args:
        module: any.
        cuda: whether it runs on GPUs, where PyTorch has a layer for it; for processors it has none.
    """
    if cuda:
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call] # torch
    for each in module.modules():
        if isinstance(each, (nn.BatchNorm1d, nn.BatchNorm2d)):
            each.__class__ = _SharedBatchNorm1d if isinstance(each, nn.BatchNorm1d) else _SharedBatchNorm2d
    return module


def _shared(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalise by mean and variance over all processes, and keep their averages as PyTorch does."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    wide = x.float()
    count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
    sums = torch.cat([wide.sum(axes), wide.square().sum(axes), count])
    total, squares, number = all_reduce(sums).split([x.shape[1], x.shape[1], 1])  # type: ignore[no-untyped-call] # torch
    mean = total / number
    variance = (squares / number - mean.square()).clamp(min=0)
    with torch.no_grad():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * number / (number - 1).clamp(min=1), norm.momentum)
    shape = [1, -1] + [1] * (x.ndim - 2)
    scale = torch.rsqrt(variance + norm.eps) * norm.weight
    normalised: Tensor = wide * scale.view(shape) + (norm.bias - mean * scale).view(shape)
    return normalised.to(x.dtype)


class _SharedBatchNorm1d(nn.BatchNorm1d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not self.training or not distributed.is_initialized():
            return super().forward(input)
        return _shared(self, input)


class _SharedBatchNorm2d(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not self.training or not distributed.is_initialized():
            return super().forward(input)
        return _shared(self, input)
