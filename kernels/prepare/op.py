"""The custom op `uperfuse::prepare`: checks and launch. It has no gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...engine.launching import prepare_request
from .. import dispatch
from ..launch import dtype_name, launch
from ..spec import Variant
from . import reference
from .reference import Channels, Prepared

__all__ = ["prepare"]


def prepare(
    pixels: Tensor, *, channels: Channels, void: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Prepared:
    """Make a network's channels of digital numbers: select bands, subtract, normalise, and 0 where void.

    On CUDA one kernel does it all and reads the bands in use once; elsewhere the plain-PyTorch reference runs. Nothing
    waits for the device: read `broken` where waiting is cheap, and refuse an image in which it is not 0.

    Args:
        pixels: digital numbers [B, bands, Y, X]; uint8, uint16, int16 or float32.
        channels: how the channels are made, on the device of the pixels.
        void: bool or uint8 [B, Y, X], not 0 where a pixel is void; nothing is void if None.
        dtype: of the values: float32, float16 or bfloat16.

    Returns:
        Values [B, C, Y, X], normalised in float32 whatever their dtype, and how many of them are NaN or infinite: [B].

    Raises:
        ValueError: shapes that do not belong together.
        TypeError: a dtype that the kernel does not take.

    Example:
        >>> import torch
        >>> elevation = torch.tensor([[130.0, 110.0], [100.0, 110.0]])[None, :, None, :]  # DSM and DTM of two pixels
        >>> height = Channels.of(band=[0], minus=[1], mean=[10.0], std=[4.0])
        >>> prepare(elevation, channels=height).values.tolist()
        [[[[5.0, -2.5]]]]
    """
    _check(pixels, channels, void)
    if not dispatch.fused(pixels):
        return reference.prepare(pixels, channels=channels, void=void, dtype=dtype)
    if void is not None:
        void = void.contiguous().view(torch.uint8)
    tables = (channels.band, channels.minus, channels.mean, channels.std)
    return Prepared(*torch.ops.uperfuse.prepare(pixels.contiguous(), void, *tables, dtype))


def _run(
    pixels: Tensor, void: Tensor | None, band: Tensor, minus: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Pixels [B, bands, Y, X] and void [B, Y, X] to values [B, C, Y, X] and how many are broken."""
    from .kernel import BLOCK, FORWARD

    B, bands, Y, X = pixels.shape
    N = Y * X
    out, _ = _empty(pixels, void, band, minus, mean, std, dtype)
    broken = pixels.new_empty((B, -(-N // BLOCK)), dtype=torch.int32)
    if void is None:
        void = pixels.new_empty(0, dtype=torch.uint8)
    arguments: dict[str, Any] = {"pixels": pixels, "void": void, "out": out, "broken": broken}
    arguments |= {"band": band, "minus": minus, "mean": mean, "std": std}
    arguments |= {"B": B, "BANDS": bands, "C": len(band), "N": N, "VOIDS": int(void.numel() > 0)}
    request = prepare_request(sample=dtype_name(pixels), dtype=dtype_name(out), pixels=N)
    launch(FORWARD, variant=Variant.of(request), arguments=arguments)
    return out, broken.sum(1)


_forward = torch.library.custom_op("uperfuse::prepare", _run, mutates_args=(), device_types="cuda")


@_forward.register_kernel("cpu")
def _(
    pixels: Tensor, void: Tensor | None, band: Tensor, minus: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    if dispatch.interpreting():
        return _run(pixels, void, band, minus, mean, std, dtype)
    channels = Channels(band, minus, mean, std, bands=pixels.shape[1])
    made = reference.prepare(pixels, channels=channels, void=void, dtype=dtype)
    return made.values, made.broken


@_forward.register_fake
def _empty(
    pixels: Tensor, void: Tensor | None, band: Tensor, minus: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    B, _, Y, X = pixels.shape
    return pixels.new_empty((B, band.shape[0], Y, X), dtype=dtype), pixels.new_empty((B,), dtype=torch.int64)


def _check(pixels: Tensor, channels: Channels, void: Tensor | None) -> None:
    if pixels.dim() != 4 or pixels.shape[1] < channels.bands:
        raise ValueError(
            f"prepare: pixels are {list(pixels.shape)}, expected [B, at least {channels.bands} bands, Y, X]; give "
            "every band that a channel is made of"
        )
    if void is None:
        return
    B, _, Y, X = pixels.shape
    if tuple(void.shape) != (B, Y, X):
        raise ValueError(f"prepare: void is {list(void.shape)}, expected [{B}, {Y}, {X}]; give one entry per pixel")
    if void.dtype not in (torch.bool, torch.uint8):
        raise TypeError(f"prepare: void is {void.dtype}, expected bool or uint8; convert it")
