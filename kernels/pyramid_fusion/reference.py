"""Sum of maps of several resolutions on one grid, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

__all__ = ["naive", "pyramid_fusion", "resize"]


def pyramid_fusion(maps: Sequence[Tensor], *, size: tuple[int, int]) -> Tensor:
    """Resize every map bilinearly (half-pixel centres) and add them up.

    A 1 x 1 convolution of the concatenation of resized maps equals this sum of maps that were projected at their
    own resolution: bilinear weights sum to one and act on every channel alike.

    Args:
        maps: [B or 1, C, Y_i, X_i] each; a batch of one is added to every sample.
        size: rows and columns of the result.

    Returns:
        [B, C, *size].
    """
    total: Tensor | None = None
    for each in maps:
        # a single pixel is the same everywhere: the sum's broadcast resizes it
        resized = each if each.shape[-2:] in {size, (1, 1)} else resize(each, size=size)
        total = resized if total is None else total + resized
    assert total is not None, "nothing to fuse"
    return total.expand(-1, -1, *size)


def resize(each: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Resize [B, C, Y, X] bilinearly with half-pixel centres, without smoothing."""
    return F.interpolate(each, size=size, mode="bilinear", align_corners=False)


def naive(maps: Sequence[Tensor], *, size: tuple[int, int]) -> Tensor:
    """The same as `pyramid_fusion`, from the definition: one output pixel after the other."""
    batch = max(each.shape[0] for each in maps)
    total = maps[0].new_zeros(batch, maps[0].shape[1], *size)
    for each in maps:
        Y, X = each.shape[-2:]
        for row in range(size[0]):
            y0, y1, fy = _neighbours(row, Y / size[0], Y)
            for column in range(size[1]):
                x0, x1, fx = _neighbours(column, X / size[1], X)
                upper = each[..., y0, x0] * (1 - fx) + each[..., y0, x1] * fx
                lower = each[..., y1, x0] * (1 - fx) + each[..., y1, x1] * fx
                total[..., row, column] += upper * (1 - fy) + lower * fy
    return total


def _neighbours(index: int, step: float, count: int) -> tuple[int, int, float]:
    """The two source pixels of an output pixel and the weight of the second."""
    place = max((index + 0.5) * step - 0.5, 0.0)
    first = min(int(place), count - 1)
    return first, min(first + 1, count - 1), place - first
