"""The custom op `uperfuse::classify`: checks and launch. It has no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...engine.launching import ResizeStep, classify_block, classify_numbers, resize_steps
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
    from .kernel import FORWARD, source_shape

    labels, confidence, _ = _empty(logits, sizes, align_corners)
    B, K, YL, XL = logits.shape
    Y, X = labels.shape[1:]
    steps = _steps(logits, _resizes(sizes, align_corners))
    room = source_shape(dtype_name(logits), len(steps))
    TY, TX = classify_block(room, steps=len(steps), logits_yx=(YL, XL), map_yx=(Y, X))
    broken = logits.new_empty((B, -(-Y // TY) * -(-X // TX)), dtype=torch.int32)
    constants = {"STEPS": len(steps), "ALIGNED": int(X % 16 == 0), "TY": TY, "TX": TX}
    arguments: dict[str, Any] = {
        "logits": logits,
        "labels": labels,
        "confidence": confidence,
        "broken": broken,
        "B": B,
        "K": K,
    }
    arguments |= classify_numbers((YL, XL), map_yx=(Y, X), steps=steps)
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


def _resizes(sizes: Sequence[int], align_corners: Sequence[bool]) -> list[Resize]:
    pairs = zip(sizes[0::2], sizes[1::2], strict=True)
    return [Resize(pair, align_corners=each) for pair, each in zip(pairs, align_corners, strict=True)]


def _steps(logits: Tensor, resizes: Sequence[Resize]) -> list[ResizeStep]:
    """The resizes that change the size of the logits."""
    size = (logits.shape[2], logits.shape[3])
    return resize_steps(size, resizes=[(each.shape_yx, each.align_corners) for each in resizes])


def _check(logits: Tensor, resizes: Sequence[Resize]) -> None:
    if logits.dim() != 4 or not 1 <= logits.shape[1] <= VOID or 0 in logits.shape[2:]:
        raise ValueError(
            f"classify: logits are {list(logits.shape)}, expected [B, 1 to {VOID} classes, Y, X] without an empty "
            "axis; give the decoder's logits"
        )
    for resize in resizes:
        if min(resize.shape_yx) < 1:
            raise ValueError(f"classify: a resize to {resize.shape_yx} px, expected at least 1 px each; leave it out")


def _check_steps(steps: Sequence[ResizeStep]) -> None:
    if len(steps) > 2:
        raise ValueError(f"classify: {len(steps)} resizes, expected at most 2 on CUDA; compose them or use disable()")
    if len(steps) == 2 and any(to < source for source, to in zip(steps[0].source_yx, steps[0].to_yx, strict=True)):
        raise ValueError(
            f"classify: the first of two resizes goes from {steps[0].source_yx} to {steps[0].to_yx} px, expected no "
            "axis to get shorter; use disable()"
        )
