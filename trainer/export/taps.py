"""The last 3 x 3 convolution of UPerNet as it is exported: coarse maps are multiplied before they are enlarged.

    conv3x3(concat(resize(x_i))) = conv3x3(concat(x_i at 1/4)) + sum_i sum_t shift_t(resize(W_it x_i))

Products with the nine taps commute with a resize, which knows nothing of channels: a map at 1/16 then costs a sixteenth
of them. Shift and resize are one matrix per axis. So at 512 px UPerNet is 15.0 GFLOP instead of 26.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...kernels.linear import resize_weights
from ...kernels.pyramid_fusion import resize
from ..network.decoders import UPerNet

__all__ = ["TapsDecoder"]

_WORTH = 0.75
_MATRIX_COST = 2
"""Of a product with a constant matrix on the left, in those of a convolution: OpenVINO multiplies float32 there."""

Pair = tuple[int, int]


class TapsDecoder(nn.Module):
    """UPerNet whose last convolution sees no map that was enlarged for it, where that is cheaper.

    Args:
        decoder: in evaluation mode; its weights are shared, but for those of the last convolution.
    """

    def __init__(self, decoder: UPerNet) -> None:
        super().__init__()
        self.decoder = decoder
        convolution, norm, self.activation = decoder.fpn_bottleneck
        weight, bias = _folded(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm))
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, finest map first, to features [B, C, Y / 4, X / 4]."""
        maps = self.decoder.maps(pyramid)
        size = _size(pyramid[0])
        weights = self.weight.chunk(len(maps), 1)
        near: list[tuple[Tensor, Tensor]] = []
        coarse: list[tuple[Tensor, Tensor]] = []
        for pair in zip(maps, weights, strict=True):
            (coarse if _pays(*pair, size=size) else near).append(pair)
        resized = [each if _size(each) == size else resize(each, size=size) for each, _ in near]
        total = F.conv2d(torch.cat(resized, 1), torch.cat([weight for _, weight in near], 1), self.bias, padding=1)
        if coarse:
            total = total + _enlarged(coarse, size=size)
        result: Tensor = self.activation(total)
        return result


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weights and bias of a convolution that does what the two do in evaluation mode."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
    return convolution.weight.detach() * scale[:, None, None, None], norm.bias.detach() - norm.running_mean * scale


def _pays(each: Tensor, weight: Tensor, *, size: Pair) -> bool:
    """Whether taps before the resize are cheaper than a convolution behind it."""
    (Y, X), (y, x), (K, C) = size, _size(each), weight.shape[:2]
    taps = 9 * C * K * y * x
    enlarging = 9 * x * X * K * y + 3 * y * Y * X * K
    return taps + _MATRIX_COST * enlarging < _WORTH * 9 * C * K * Y * X


def _enlarged(pairs: Sequence[tuple[Tensor, Tensor]], *, size: Pair) -> Tensor:
    """Sum [B, K, Y, X] of maps [B, C, y, x], each multiplied by its taps [K, C, 3, 3] and resized."""
    rows = torch.cat([_wide(each, weight, columns=size[1]) for each, weight in pairs], 1)
    matrix = torch.cat([_taps(each.shape[2], size[0], like=each) for each, _ in pairs], 1)
    total = matrix @ rows  # [B, Y, X K]
    return total.view(total.shape[0], *size, -1).permute(0, 3, 1, 2)


def _wide(each: Tensor, weight: Tensor, *, columns: int) -> Tensor:
    """A map times its taps, with all its columns: [B, y 3, X K], a row for every tap of the other axis."""
    K, (y, x) = weight.shape[0], _size(each)
    # of a pixel's results those of one column tap lie together, and behind each other those of its row taps
    by_column = weight.permute(3, 2, 0, 1).flatten(0, 2)
    product = F.conv2d(each, by_column[:, :, None, None]).permute(0, 2, 3, 1)  # [B, y, x, 3 3 K]
    wide = _taps(x, columns, like=each) @ product.reshape(-1, y, x * 3, 3 * K)  # [B, y, X, 3 K]
    return wide.view(-1, y, columns, 3, K).transpose(2, 3).reshape(-1, y * 3, columns * K)


def _taps(source: int, size: int, *, like: Tensor) -> Tensor:
    """Weights [size, source 3] of a resize, moved by each tap of a convolution with zeros around it."""
    weights = resize_weights(source, size, like=like)
    before, behind = F.pad(weights[:-1], (0, 0, 1, 0)), F.pad(weights[1:], (0, 0, 0, 1))
    return torch.stack([before, weights, behind], 2).flatten(1)


def _size(each: Tensor) -> Pair:
    return each.shape[-2], each.shape[-1]
