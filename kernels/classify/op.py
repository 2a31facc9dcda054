"""The custom op `uperfuse::classify`: checks and launch. It has no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import dispatch
from ..launch import dtype_name, launch
from ..spec import Variant
from . import reference
from .reference import VOID, Classified, Resize

__all__ = ["classify"]


def classify(logits: Tensor, *, resizes: Sequence[Resize] = ()) -> Classified:
    """Resize logits, take the largest and its softmax probability; the logits at the map's size are never stored.

    On CUDA one kernel does it all; elsewhere the plain-PyTorch reference runs. Nothing waits for the device: read
    `broken` where waiting is cheap, and refuse a map in which it is not 0.

    Args:
        logits: [B, K, Y, X] at the decoder's size, K from 1 to 255.
        resizes: from there to the size of the map, in order; none at all classifies the logits as they are. On CUDA at
            most two that change a size, of which the first makes no axis shorter.

    Returns:
        Labels and confidence in percent, uint8 [B, Y, X] each, and the number of pixels [B] that have neither.

    Raises:
        ValueError: shapes or resizes that cannot be.
        TypeError: a dtype that the kernel does not take.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 3.0], [2.0, 0.0]])[None, :, None, :]  # two classes, a row of two pixels
        >>> found = classify(logits, resizes=[Resize(shape_yx=(1, 4), align_corners=True)])
        >>> found.labels.tolist(), found.confidence.tolist(), found.broken.tolist()
        ([[[1, 1, 0, 0]]], [[[88, 58, 79, 95]]], [0])
    """
    _check(logits, resizes)
    if not dispatch.fused(logits):
        return reference.classify(logits, resizes=resizes)
    _check_steps(_steps(logits, resizes))
    sizes = [size for resize in resizes for size in resize.shape_yx]
    align_corners = [resize.align_corners for resize in resizes]
    return Classified(*torch.ops.uperfuse.classify(logits.contiguous(), sizes, align_corners))


def _run(logits: Tensor, sizes: Sequence[int], align_corners: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [B, K, Y, X], the rows and columns after each resize in turn, and its kind."""
    from .kernel import FORWARD

    labels, confidence, _ = _empty(logits, sizes, align_corners)
    B, K, YL, XL = logits.shape
    Y, X = labels.shape[1:]
    steps = _steps(logits, _resizes(sizes, align_corners))
    TY, TX = _block_shape(dtype_name(logits), len(steps), logits_yx=(YL, XL), map_yx=(Y, X))
    broken = logits.new_empty((B, -(-Y // TY) * -(-X // TX)), dtype=torch.int32)
    # a step that is not there reads as one that changes nothing
    first, second = [*steps, *[_Step((Y, X), (Y, X), align_corners=True)] * 2][:2]
    constants = {"STEPS": len(steps), "ALIGNED": int(X % 16 == 0), "TY": TY, "TX": TX}
    arguments: dict[str, Any] = {
        "logits": logits,
        "labels": labels,
        "confidence": confidence,
        "broken": broken,
        "B": B,
        "K": K,
    }
    arguments |= {"YL": YL, "XL": XL, "Y1": first.to_yx[0], "X1": first.to_yx[1], "Y": Y, "X": X}
    arguments |= {"scale_y0": first.scale(0), "scale_x0": first.scale(1), "centre0": first.centre}
    arguments |= {"scale_y1": second.scale(0), "scale_x1": second.scale(1), "centre1": second.centre}
    launch(FORWARD, variant=Variant({"T": dtype_name(logits)}, constants), arguments=arguments)
    return labels, confidence, broken.sum(1)


_forward = torch.library.custom_op("uperfuse::classify", _run, mutates_args=(), device_types="cuda")


@_forward.register_kernel("cpu")
def _(logits: Tensor, sizes: Sequence[int], align_corners: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    if dispatch.interpreting():
        return _run(logits, sizes, align_corners)
    found = reference.classify(logits, resizes=_resizes(sizes, align_corners))
    return found.labels, found.confidence, found.broken


@_forward.register_fake
def _empty(logits: Tensor, sizes: Sequence[int], align_corners: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    B, _, Y, X = logits.shape
    if sizes:
        Y, X = sizes[-2:]
    labels, confidence = (logits.new_empty((B, Y, X), dtype=torch.uint8) for _ in range(2))
    return labels, confidence, logits.new_empty((B,), dtype=torch.int64)


@dataclass(frozen=True)
class _Step:
    """A resize as the kernel computes it along an axis: `place = scale * (index + centre) - centre`."""

    source_yx: tuple[int, int]
    to_yx: tuple[int, int]
    align_corners: bool

    @property
    def centre(self) -> float:
        return 0.0 if self.align_corners else 0.5

    def scale(self, axis: int) -> float:
        source, to = self.source_yx[axis], self.to_yx[axis]
        if source == to:
            return 1.0
        return (source - 1) / max(to - 1, 1) if self.align_corners else source / to


def _resizes(sizes: Sequence[int], align_corners: Sequence[bool]) -> list[Resize]:
    pairs = zip(sizes[0::2], sizes[1::2], strict=True)
    return [Resize(pair, align_corners=each) for pair, each in zip(pairs, align_corners, strict=True)]


def _steps(logits: Tensor, resizes: Sequence[Resize]) -> list[_Step]:
    """The resizes that change the size of the logits."""
    before = [(logits.shape[2], logits.shape[3]), *(resize.shape_yx for resize in resizes)]
    steps = [_Step(source, each.shape_yx, each.align_corners) for source, each in zip(before, resizes, strict=False)]
    return [step for step in steps if step.source_yx != step.to_yx]


def _block_shape(dtype: str, steps: int, *, logits_yx: tuple[int, int], map_yx: tuple[int, int]) -> list[int]:
    """Rows and columns of the map per program, so that it has room for the logits that they read."""
    from .kernel import source_shape

    source = source_shape(dtype, steps)
    block = [2 * room for room in source]
    for axis in range(2):
        apart = logits_yx[axis] / max(map_yx[axis] - 1, 1)  # neighbours in the map, counted in logits, at most
        while steps and block[axis] > 1 and _places(block[axis], apart, steps) > source[axis]:
            block[axis] //= 2
    return block


def _places(pixels: int, apart: float, steps: int) -> int:
    """Logits along an axis that so many pixels read at most."""
    return int((pixels - 1) * apart) + 2 * steps + 1


def _check(logits: Tensor, resizes: Sequence[Resize]) -> None:
    if logits.dim() != 4 or not 1 <= logits.shape[1] <= VOID or 0 in logits.shape[2:]:
        raise ValueError(
            f"classify: logits are {list(logits.shape)}, expected [B, 1 to {VOID} classes, Y, X] without an empty "
            "axis; give the decoder's logits"
        )
    for resize in resizes:
        if min(resize.shape_yx) < 1:
            raise ValueError(f"classify: a resize to {resize.shape_yx} px, expected at least 1 px each; leave it out")


def _check_steps(steps: Sequence[_Step]) -> None:
    if len(steps) > 2:
        raise ValueError(f"classify: {len(steps)} resizes, expected at most 2 on CUDA; compose them or use disable()")
    if len(steps) == 2 and any(to < source for source, to in zip(steps[0].source_yx, steps[0].to_yx, strict=True)):
        raise ValueError(
            f"classify: the first of two resizes goes from {steps[0].source_yx} to {steps[0].to_yx} px, expected no "
            "axis to get shorter; use disable()"
        )
