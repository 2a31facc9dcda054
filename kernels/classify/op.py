"""The custom op `uperfuse::classify`: checks and launch. It has no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...engine.launching import ResizeStep, classify_limit, classify_numbers, classify_request, resize_steps
from .. import dispatch
from ..launch import dtype_name, launch
from ..spec import Variant
from . import reference
from .reference import VOID, Classified, Resize

__all__ = ["classify"]


def classify(logits: Tensor, *, resizes: Sequence[Resize] = (), void: Tensor | None = None) -> Classified:
    """Resize logits, take the largest and its softmax probability; the logits at the map's size are never stored.

    On CUDA one kernel does it all; elsewhere the plain-PyTorch reference runs. Nothing waits for the device: read
    `broken` where waiting is cheap, and refuse a map in which it is not 0.

    Args:
        logits: [B, K, Y, X] at the decoder's size, K from 1 to 255.
        resizes: from there to the size of the map, in order; none at all classifies the logits as they are. On CUDA at
            most two that change a size, of which the first makes no axis shorter.
        void: bool or uint8 [B, Y, X] at the map's size, not 0 where a pixel is void; nothing is void if None.

    Returns:
        Labels and confidence in percent, uint8 [B, Y, X] each, 255 where void, and the number of pixels [B] that have
        neither without being void.

    Raises:
        ValueError: shapes or resizes that cannot be, or do not belong together.
        TypeError: a dtype that the kernel does not take.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 3.0], [2.0, 0.0]])[None, :, None, :]  # two classes, a row of two pixels
        >>> found = classify(logits, resizes=[Resize(shape_yx=(1, 4), align_corners=True)])
        >>> found.labels.tolist(), found.confidence.tolist(), found.broken.tolist()
        ([[[1, 1, 0, 0]]], [[[88, 58, 79, 95]]], [0])
    """
    _check(logits, resizes, void)
    if not dispatch.fused(logits):
        return reference.classify(logits, resizes=resizes, void=void)
    limit = classify_limit(_steps(logits, resizes))
    if limit:
        raise ValueError(f"classify: {limit}; use uperfuse.kernels.disable()")
    if void is not None:
        void = void.contiguous().view(torch.uint8)
    sizes = [size for resize in resizes for size in resize.shape_yx]
    align_corners = [resize.align_corners for resize in resizes]
    return Classified(*torch.ops.uperfuse.classify(logits.contiguous(), void, sizes, align_corners))


def _run(
    logits: Tensor, void: Tensor | None, sizes: Sequence[int], align_corners: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [B, K, Y, X], void [B, Y, X] of the map, the rows and columns after each resize in turn, and its kind."""
    from .kernel import FORWARD

    labels, confidence, _ = _empty(logits, void, sizes, align_corners)
    B, K, YL, XL = logits.shape
    Y, X = labels.shape[1:]
    resizes = [(each.shape_yx, each.align_corners) for each in _resizes(sizes, align_corners)]
    request = classify_request(dtype=dtype_name(logits), logits_yx=(YL, XL), map_yx=(Y, X), resizes=resizes)
    blocks = -(-Y // request.constants["TY"]) * -(-X // request.constants["TX"])
    broken = logits.new_empty((B, blocks), dtype=torch.int32)
    if void is None:
        void = labels.new_empty(0)
    arguments: dict[str, Any] = {"logits": logits, "void": void, "labels": labels, "confidence": confidence}
    arguments |= {"broken": broken, "B": B, "K": K, "VOIDS": int(void.numel() > 0)}
    steps = resize_steps((YL, XL), resizes=resizes)
    arguments |= classify_numbers((YL, XL), map_yx=(Y, X), steps=steps)
    launch(FORWARD, variant=Variant.of(request), arguments=arguments)
    return labels, confidence, broken.sum(1)


_forward = torch.library.custom_op("uperfuse::classify", _run, mutates_args=(), device_types="cuda")


@_forward.register_kernel("cpu")
def _(
    logits: Tensor, void: Tensor | None, sizes: Sequence[int], align_corners: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    if dispatch.interpreting():
        return _run(logits, void, sizes, align_corners)
    found = reference.classify(logits, resizes=_resizes(sizes, align_corners), void=void)
    return found.labels, found.confidence, found.broken


@_forward.register_fake
def _empty(
    logits: Tensor, void: Tensor | None, sizes: Sequence[int], align_corners: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
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


def _check(logits: Tensor, resizes: Sequence[Resize], void: Tensor | None) -> None:
    if logits.dim() != 4 or not 1 <= logits.shape[1] <= VOID or 0 in logits.shape[2:]:
        raise ValueError(
            f"classify: logits are {list(logits.shape)}, expected [B, 1 to {VOID} classes, Y, X] without an empty "
            "axis; give the decoder's logits"
        )
    for resize in resizes:
        if min(resize.shape_yx) < 1:
            raise ValueError(f"classify: a resize to {resize.shape_yx} px, expected at least 1 px each; leave it out")
    if void is None:
        return
    shape = (logits.shape[0], *(resizes[-1].shape_yx if resizes else logits.shape[2:]))
    if tuple(void.shape) != shape:
        raise ValueError(f"classify: void is {list(void.shape)}, expected {list(shape)}; give one entry per pixel")
    if void.dtype not in (torch.bool, torch.uint8):
        raise TypeError(f"classify: void is {void.dtype}, expected bool or uint8; convert it")
