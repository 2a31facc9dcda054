"""The step `prepare`: digital numbers of a tile to what an encoder takes.

Images are normalised per channel, their void pixels become the mean. Series enter as they are; a void pixel becomes
the mean of its acquisition, and an acquisition without a single valid pixel is masked like padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import _native
from .device_array import DeviceArray
from .errors import TileError
from .plan.network import Modality
from .series import DATE_BUCKETS, date_bucket
from .tiles import ImageTile, SeriesTile

__all__ = ["not_finite", "prepare_image", "prepare_series"]


def prepare_image(tile: ImageTile, modality: Modality, *, threads: int = 1) -> NDArray[np.float32]:
    """Normalised pixels of an image.

    Args:
        tile: digital numbers [C, Y, X] in the order of `modality.bands`.
        modality: bands, channels and statistics.
        threads: processor threads.

    Returns:
        float32 [1, C, Y, X], one channel for each of `modality.channels`; 0 where void.

    Raises:
        TileError: NaN or infinite values at pixels that are not void, or the image lies on a GPU.
    """
    if isinstance(tile.pixels, DeviceArray):
        raise TileError(
            f"{modality.name} lies on a GPU, and the engine runs on the processor; copy it to the host first"
        )
    out = np.empty((1, len(modality.channels), *tile.pixels.shape[1:]), np.float32)
    index = {band: place for place, band in enumerate(modality.bands)}
    broken = _native.prepare(
        tile.pixels,
        out=out[0],
        band=[index[channel.band] for channel in modality.channels],
        minus=[-1 if channel.minus is None else index[channel.minus] for channel in modality.channels],
        mean=[channel.mean for channel in modality.channels],
        std=[channel.std for channel in modality.channels],
        void=tile.void,
        threads=threads,
    )
    if broken:
        raise not_finite(modality, broken, tile.pixels.size)
    return out


def prepare_series(
    tile: SeriesTile, modality: Modality, *, buckets: Sequence[int] = DATE_BUCKETS
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """A series padded to its bucket of dates.

    Args:
        tile: digital numbers [T, C, Y, X] in the order of `modality.bands`, with days [T].
        modality: bands and channels.
        buckets: numbers of dates that it may be padded to, rising.

    Returns:
        Pixels float32 [1, P, C, Y, X], days float32 [1, P] and mask float32 [1, P]: 1 for a date, 0 for padding.

    Raises:
        TileError: NaN or infinite values at pixels that are not void, or more dates than any bucket holds.
    """
    dates, _, height, width = tile.pixels.shape
    try:
        bucket = date_bucket(dates, buckets=buckets)
    except TileError as error:
        raise TileError(f"{modality.name}: {error}") from None
    pixels = np.zeros((1, bucket, len(modality.channels), height, width), np.float32)
    days = np.zeros((1, bucket), np.float32)
    mask = np.zeros((1, bucket), np.float32)
    days[0, :dates] = tile.days
    mask[0, :dates] = 1.0
    index = {band: place for place, band in enumerate(modality.bands)}
    with np.errstate(invalid="ignore", over="ignore"):
        for place, channel in enumerate(modality.channels):
            values = tile.pixels[:, index[channel.band]].astype(np.float32)  # [T, Y, X]
            if channel.minus is not None:
                values = values - tile.pixels[:, index[channel.minus]].astype(np.float32)
            pixels[0, :dates, place] = (values - np.float32(channel.mean)) / np.float32(channel.std)
    if tile.void is not None:
        mask[0, :dates] = _fill(pixels[0, :dates], tile.void)
    broken = int((~np.isfinite(pixels)).sum())
    if broken:
        raise not_finite(modality, broken, tile.pixels.size)
    return pixels, days, mask


def _fill(pixels: NDArray[np.float32], void: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Void pixels [T, Y, X] of [T, C, Y, X] become the mean of their acquisition; 0 where it has none, mask [T]."""
    valid = ~void[:, None]  # [T, 1, Y, X]
    count = valid.sum(axis=(2, 3))  # [T, 1]
    total = np.where(valid, pixels, np.float32(0)).sum(axis=(2, 3), dtype=np.float64)  # [T, C]
    mean = (total / np.maximum(count, 1)).astype(np.float32)
    np.copyto(pixels, np.broadcast_to(mean[:, :, None, None], pixels.shape), where=~valid)
    seen: NDArray[np.float32] = (count[:, 0] > 0).astype(np.float32)
    return seen


def not_finite(modality: Modality, broken: int, total: int) -> TileError:
    """What is said of values of a tile that are no numbers, `broken` of `total`."""
    return TileError(
        f"{modality.name} has {broken} NaN or infinite values of {total}, expected none; "
        f"say which pixels are void in voids[{modality.name!r}]"
    )
