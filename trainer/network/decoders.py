"""Decoders: a pyramid of four maps to class logits. Parameter names are those of segmentation-models-pytorch 0.4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...kernels.pyramid_fusion import resize
from .spec import LEVELS, NetworkSpec

__all__ = ["SegmentationDecoder", "UPerNet"]

_POOLS = (1, 2, 3, 6)


class SegmentationDecoder(nn.Module):
    """One task's decoder and head.

    Attributes:
        scale: factor by which `forward`'s result is still to be enlarged (`align_corners=True`) to reach the tile.
    """

    def __init__(self, spec: NetworkSpec, *, dims: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.seg_model = _Model(spec, dims=dims, classes=classes)
        self.scale = 4 if spec.decoder == "upernet" else 1

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, finest map first, to logits [B, K, Y / 4, X / 4] (U-Net: [B, K, Y, X])."""
        out: Tensor = self.seg_model.segmentation_head(self.seg_model.decoder(pyramid))
        return out


class _Model(nn.Module):
    """Decoder and head, behind the name that checkpoints give the pair."""

    def __init__(self, spec: NetworkSpec, *, dims: tuple[int, ...], classes: int) -> None:
        super().__init__()
        if spec.decoder == "upernet":
            self.decoder: nn.Module = UPerNet(dims, pyramid=spec.pyramid_channels, last=spec.segmentation_channels)
            head = nn.Conv2d(spec.segmentation_channels, classes, 1)
        else:
            self.decoder = _UNet(dims, spec.unet_channels)
            head = nn.Conv2d(spec.unet_channels[-1], classes, 3, padding=1)
        self.segmentation_head = nn.Sequential(head)
        for module in self.decoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="relu")
        nn.init.xavier_uniform_(head.weight)
        assert head.bias is not None
        nn.init.zeros_(head.bias)


def _conv(before: int, after: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


class _PyramidPooling(nn.Module):
    """Means over 1, 2 x 2, 3 x 3 and 6 x 6 parts of the coarsest map, joined to it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        # place 0 holds the pooling, which has no parameters
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Identity(), _conv(before, before // len(_POOLS), 1)) for _ in _POOLS
        )
        self.out_conv = _conv(before // len(_POOLS) * len(_POOLS) + before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        pooled = [resize(block(_pool(x, parts)), size=size) for block, parts in zip(self.blocks, _POOLS, strict=True)]
        out: Tensor = self.out_conv(torch.cat([x, *pooled], dim=1))
        return out


class _Lateral(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.skip_conv = _conv(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip_conv(x)
        return out


class UPerNet(nn.Module):
    """Pyramid pooling, top-down additions, and one convolution over everything at 1/4.

    Args:
        dims: channels of the pyramid, finest map first.
        pyramid: channels of every map inside.
        last: channels of the result.
    """

    def __init__(self, dims: tuple[int, ...], *, pyramid: int, last: int) -> None:
        super().__init__()
        self.psp = _PyramidPooling(dims[-1], pyramid)
        laterals = [_Lateral(dim, pyramid) for dim in reversed(dims[:-1])]
        # stage 3 joins a map without channels; stage 4 belongs to an input of one channel and is never used
        self.fpn_stages = nn.ModuleList([*laterals, nn.Identity(), _Lateral(1, pyramid)])
        self.fpn_bottleneck = _conv((LEVELS + 1) * pyramid, last, 3)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Decode a pyramid, finest map first, to features [B, last, Y / 4, X / 4]."""
        maps = self.maps(pyramid)
        quarter = _size(pyramid[0])
        resized = [each if _size(each) == quarter else resize(each, size=quarter) for each in maps]
        out: Tensor = self.fpn_bottleneck(torch.cat(resized, dim=1))
        return out

    def maps(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """What the last convolution sees, coarsest map first and each at its own size."""
        maps = [self.psp(pyramid[-1])]
        for stage, skip in zip(self.fpn_stages, reversed(pyramid[:-1]), strict=False):
            maps.append(resize(maps[-1], size=_size(skip)) + stage(skip))
        maps.append(_smooth(maps[-1]))
        return maps


class _UNetBlock(nn.Module):
    def __init__(self, before: int, skip: int, after: int) -> None:
        super().__init__()
        self.conv1 = _conv(before + skip, after, 3)
        self.conv2 = _conv(after, after, 3)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        size = (2 * x.shape[-2], 2 * x.shape[-1]) if skip is None else _size(skip)
        x = F.interpolate(x, size=size, mode="nearest")
        out: Tensor = self.conv2(self.conv1(x if skip is None else torch.cat([x, skip], dim=1)))
        return out


class _UNet(nn.Module):
    """Five blocks that double the size: three with a skip, two without."""

    def __init__(self, dims: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        before = (dims[-1], *widths[:-1])
        skips = (*reversed(dims[:-1]), 0, 0)
        self.blocks = nn.ModuleList(map(_UNetBlock, before, skips, widths))

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        x = pyramid[-1]
        skips = [*reversed(pyramid[:-1]), None, None]
        for block, skip in zip(self.blocks, skips, strict=True):
            x = block(x, skip)
        return x


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _pool(x: Tensor, parts: int) -> Tensor:
    """Mean over `parts` x `parts` overlapping areas, as products with two constant matrices."""
    rows, columns = (x.new_tensor(_parts_of(side, parts)) for side in _size(x))
    return rows @ x @ columns.T


def _parts_of(side: int, parts: int) -> list[list[float]]:
    """Row i averages the pixels from floor(i side / parts) up to ceil((i + 1) side / parts)."""
    bounds = [(part * side // parts, -(-(part + 1) * side // parts)) for part in range(parts)]
    return [[float(first <= pixel < end) / (end - first) for pixel in range(side)] for first, end in bounds]


def _smooth(x: Tensor) -> Tensor:
    """Double the size bilinearly and halve it again, in one step: (1, 6, 1) / 8 along both axes."""
    tap = x.new_tensor([0.125, 0.75, 0.125])
    kernel = (tap[:, None] * tap).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
