"""Digital numbers to normalised channels, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Channels", "Prepared", "naive", "prepare"]


@dataclass(frozen=True, eq=False)
class Channels:
    """How a network's channels are made of an image's bands: `(band - minus - mean) / std`; see `Channels.of`.

    Attributes:
        band: int32 [C], the band each channel takes.
        minus: int32 [C], the band subtracted from it, -1 for none.
        mean: float32 [C].
        std: float32 [C], above 0.
        bands: how many bands an image must have.
    """

    band: Tensor
    minus: Tensor
    mean: Tensor
    std: Tensor
    bands: int

    @classmethod
    def of(
        cls,
        *,
        band: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        minus: Sequence[int] | None = None,
        device: torch.device | str | None = None,
    ) -> Channels:
        """Check channels and bring them to a device, once for all images.

        Args:
            band: per channel the band it takes.
            mean: per channel, after the subtraction.
            std: per channel, above 0.
            minus: per channel the band that is subtracted, -1 for none; no channel subtracts any where left out.
            device: where the images will be.

        Raises:
            ValueError: lengths that differ, bands below 0, a `std` that is not above 0.
        """
        minus = [-1] * len(band) if minus is None else list(minus)
        lengths = [len(each) for each in (band, minus, mean, std)]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise ValueError(
                f"prepare: band, minus, mean and std have {lengths} entries, expected as many of each and at least 1; "
                "give one per channel"
            )
        if min(band) < 0 or min(minus) < -1:
            raise ValueError(f"prepare: bands {band} and {minus}, expected 0 and above, or -1 in minus; count from 0")
        if not all(value > 0 for value in std):
            raise ValueError(f"prepare: std is {list(std)}, expected above 0; give each channel's standard deviation")
        return cls(
            band=torch.tensor(band, dtype=torch.int32, device=device),
            minus=torch.tensor(minus, dtype=torch.int32, device=device),
            mean=torch.tensor(mean, dtype=torch.float32, device=device),
            std=torch.tensor(std, dtype=torch.float32, device=device),
            bands=max(*band, *minus) + 1,
        )


class Prepared(NamedTuple):
    """What `prepare` makes.

    Attributes:
        values: [B, C, Y, X], 0 where void.
        broken: int64 [B], how many of the values are NaN or infinite. An image in which this is not 0 must be refused;
            it stays on the device, so that the caller chooses when to wait for it.
    """

    values: Tensor
    broken: Tensor


def prepare(
    pixels: Tensor, *, channels: Channels, void: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Prepared:
    """Select bands, subtract, normalise and blank what is void.

    Args:
        pixels: digital numbers [B, bands, Y, X].
        channels: how the channels are made.
        void: bool or uint8 [B, Y, X], not 0 where a pixel is void.
        dtype: of the values.

    Returns:
        Values [B, C, Y, X] and the number of broken ones.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    values = pixels[:, channels.band].to(wide)
    less = pixels[:, channels.minus.clamp(min=0)].to(wide)
    values = torch.where((channels.minus >= 0)[:, None, None], values - less, values)
    values = ((values - channels.mean[:, None, None]) / channels.std[:, None, None]).to(dtype)
    if void is not None:
        values = torch.where(void[:, None] != 0, torch.zeros_like(values), values)
    return Prepared(values, (~values.isfinite()).sum(dim=(1, 2, 3)))


def naive(pixels: Tensor, *, channels: Channels, void: Tensor | None = None) -> Tensor:
    """The values, one after the other, in float64."""
    B, _, Y, X = pixels.shape
    values = torch.zeros(B, len(channels.band), Y, X, dtype=torch.float64)
    for c, (band, minus) in enumerate(zip(channels.band.tolist(), channels.minus.tolist(), strict=True)):
        for place in torch.cartesian_prod(*(torch.arange(size) for size in (B, Y, X))).tolist():
            b, y, x = place
            if void is not None and void[b, y, x]:
                continue
            value = float(pixels[b, band, y, x])
            if minus >= 0:
                value -= float(pixels[b, minus, y, x])
            values[b, c, y, x] = (value - float(channels.mean[c])) / float(channels.std[c])
    return values
