"""Sum of maps of several resolutions on one grid, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..linear import resize_weights

__all__ = ["backward", "naive", "project_and_fuse", "pyramid_fusion", "resize"]


def pyramid_fusion(maps: Sequence[Tensor], *, size: tuple[int, int]) -> Tensor:
    """Resize every map bilinearly (half-pixel centres) and add them up.

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


def project_and_fuse(base: Tensor, *, weight: Tensor, bias: Tensor | None, maps: Sequence[Tensor]) -> Tensor:
    """Project a map with a 1 x 1 convolution and add others to it, resized to its size.

    Args:
        base: [B, C_in, Y, X].
        weight: [C, C_in, 1, 1].
        bias: [C].
        maps: [B or 1, C, Y_i, X_i] each.

    Returns:
        [B, C, Y, X].
    """
    return pyramid_fusion([F.conv2d(base, weight, bias), *maps], size=(base.shape[-2], base.shape[-1]))


def resize(each: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Resize [B, C, Y, X] bilinearly with half-pixel centres, without smoothing."""
    return F.interpolate(each, size=size, mode="bilinear", align_corners=False)


def backward(gradient: Tensor, *, batch: int, size: tuple[int, int]) -> Tensor:
    """Gradient of a map that was resized and added.

    Args:
        gradient: of the sum, [B, C, Y, X].
        batch: samples of the map: B, or 1 for one that served all of them.
        size: rows and columns of the map.

    Returns:
        [batch, C, *size].
    """
    if batch == 1:
        gradient = gradient.sum(0, keepdim=True)
    rows, columns = (resize_weights(size[axis], gradient.shape[axis - 2], like=gradient) for axis in (0, 1))
    return torch.einsum("bcyx,yv,xw->bcvw", gradient, rows, columns)


def naive(
    maps: Sequence[Tensor],
    *,
    size: tuple[int, int],
    base: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Either operation from its definition: one output pixel after the other."""
    like = maps[0] if base is None else base
    batch = max(each.shape[0] for each in (like, *maps))
    total = like.new_zeros(batch, maps[0].shape[1] if weight is None else weight.shape[0], *size)
    for row in range(size[0]):
        for column in range(size[1]):
            here = total[..., row, column]
            if base is not None and weight is not None:
                here += base[..., row, column] @ weight[:, :, 0, 0].T
            if bias is not None:
                here += bias
            for each in maps:
                here += _sample(each, row=row, column=column, size=size)
    return total


def _sample(each: Tensor, *, row: int, column: int, size: tuple[int, int]) -> Tensor:
    """A map at one pixel of another size."""
    Y, X = each.shape[-2:]
    y0, y1, fy = _neighbours(row, Y / size[0], Y)
    x0, x1, fx = _neighbours(column, X / size[1], X)
    upper = each[..., y0, x0] * (1 - fx) + each[..., y0, x1] * fx
    lower = each[..., y1, x0] * (1 - fx) + each[..., y1, x1] * fx
    return upper * (1 - fy) + lower * fy


def _neighbours(index: int, step: float, count: int) -> tuple[int, int, float]:
    """The two source pixels of an output pixel and the weight of the second."""
    place = max((index + 0.5) * step - 0.5, 0.0)
    first = min(int(place), count - 1)
    return first, min(first + 1, count - 1), place - first
