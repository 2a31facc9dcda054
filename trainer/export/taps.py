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
        sizes: rows and columns of the pyramid's maps, finest first.
    """

    rows: Tensor

    def __init__(self, decoder: UPerNet, *, sizes: Sequence[Pair]) -> None:
        super().__init__()
        self.decoder = decoder
        convolution, norm, self.activation = decoder.fpn_bottleneck
        weight, bias = _folded(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm))
        self._size = sizes[0]
        of_maps = [*reversed(sizes), sizes[0]]
        weights = weight.chunk(len(of_maps), 1)
        self._coarse = [_pays(own, each, size=sizes[0]) for own, each in zip(of_maps, weights, strict=True)]
        near = [each for each, coarse in zip(weights, self._coarse, strict=True) if not coarse]
        # stored as they are multiplied, for only what is stored can be quantised
        self.weight, self.bias = nn.Parameter(torch.cat(near, 1)), nn.Parameter(bias)
        self.taps = nn.ParameterList()
        rows: list[Tensor] = []
        for own, each in zip(of_maps, weights, strict=True):
            if not _pays(own, each, size=sizes[0]):
                continue
            # of a pixel's results those of one column tap lie together, and behind each other those of its row taps
            self.taps.append(each.permute(3, 2, 0, 1).flatten(0, 2)[:, :, None, None].contiguous())
            self.register_buffer(f"columns{len(rows)}", _taps(own[1], sizes[0][1], like=weight), persistent=False)
            rows.append(_taps(own[0], sizes[0][0], like=weight))
        self.register_buffer("rows", torch.cat(rows, 1) if rows else weight.new_zeros(0), persistent=False)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, finest map first, to features [B, C, Y / 4, X / 4]."""
        maps = list(zip(self.decoder.maps(pyramid), self._coarse, strict=True))
        near = [each for each, coarse in maps if not coarse]
        resized = [each if _size(each) == self._size else resize(each, size=self._size) for each in near]
        total = F.conv2d(torch.cat(resized, 1), self.weight, self.bias, padding=1)
        if len(self.taps):
            total = total + self._enlarged([each for each, coarse in maps if coarse])
        result: Tensor = self.activation(total)
        return result

    def _enlarged(self, maps: Sequence[Tensor]) -> Tensor:
        """Sum [B, K, Y, X] of maps [B, C, y, x], each multiplied by its taps and resized."""
        wide = [
            _wide(each, taps, columns=getattr(self, f"columns{place}"))
            for place, (each, taps) in enumerate(zip(maps, self.taps, strict=True))
        ]
        total = self.rows @ torch.cat(wide, 1)  # [B, Y, X K]
        return total.view(total.shape[0], *self._size, -1).permute(0, 3, 1, 2)


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weights and bias of a convolution that does what the two do in evaluation mode."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
    return convolution.weight.detach() * scale[:, None, None, None], norm.bias.detach() - norm.running_mean * scale


def _pays(own: Pair, weight: Tensor, *, size: Pair) -> bool:
    """Whether taps before the resize of a map of rows and columns `own` are cheaper than a convolution behind it."""
    (Y, X), (y, x), (K, C) = size, own, weight.shape[:2]
    taps = 9 * C * K * y * x
    enlarging = 9 * x * X * K * y + 3 * y * Y * X * K
    return taps + _MATRIX_COST * enlarging < _WORTH * 9 * C * K * Y * X


def _wide(each: Tensor, taps: Tensor, *, columns: Tensor) -> Tensor:
    """A map times its taps, with all its columns: [B, y 3, X K], a row for every tap of the other axis."""
    (y, x), X = _size(each), columns.shape[0]
    product = F.conv2d(each, taps).permute(0, 2, 3, 1)  # [B, y, x, 3 3 K]
    K = product.shape[-1] // 9
    wide = columns @ product.reshape(-1, y, x * 3, 3 * K)  # [B, y, X, 3 K]
    return wide.view(-1, y, X, 3, K).transpose(2, 3).reshape(-1, y * 3, X * K)


def _taps(source: int, size: int, *, like: Tensor) -> Tensor:
    """Weights [size, source 3] of a resize, moved by each tap of a convolution with zeros around it."""
    weights = resize_weights(source, size, like=like)
    before, behind = F.pad(weights[:-1], (0, 0, 1, 0)), F.pad(weights[1:], (0, 0, 0, 1))
    return torch.stack([before, weights, behind], 2).flatten(1)


def _size(each: Tensor) -> Pair:
    return each.shape[-2], each.shape[-1]
