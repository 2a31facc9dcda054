"""Logits to the size of a map, all of its pixels or every n-th."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...kernels.pyramid_fusion import resize

__all__ = ["enlarged"]


def enlarged(logits: Tensor, *, scale: int, output_px: tuple[int, int] | None, stride: int) -> Tensor:
    """Enlarge logits; see `UPerFuse.enlarge`.

    Interpolation is linear along each axis, so that a stride takes rows and columns of its matrices.

    Args:
        logits: [B, K, Y, X].
        scale: by which they are enlarged first, corners aligned.
        output_px: rows and columns of the full size; `scale` times those of the logits where None.
        stride: every how manieth pixel is wanted.
    """
    if stride > 1:
        sides = output_px or (logits.shape[-2] * scale, logits.shape[-1] * scale)
        rows, columns = (
            _interpolation(logits, side, scale=scale, output=output)[:, stride // 2 :: stride]
            for side, output in zip(logits.shape[-2:], sides, strict=True)
        )
        return rows.T @ logits @ columns
    if scale != 1:
        size = (logits.shape[-2] * scale, logits.shape[-1] * scale)
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
    if output_px is None or output_px == (logits.shape[-2], logits.shape[-1]):
        return logits
    return resize(logits, size=output_px)


def _interpolation(like: Tensor, side: int, *, scale: int, output: int) -> Tensor:
    """What each of `output` pixels takes from each of `side` ones along an axis, [side, output]."""
    matrix = torch.eye(side, dtype=like.dtype, device=like.device)[None]
    if scale != 1:
        matrix = F.interpolate(matrix, size=side * scale, mode="linear", align_corners=True)
    if matrix.shape[-1] != output:
        matrix = F.interpolate(matrix, size=output, mode="linear", align_corners=False)
    return matrix[0]
