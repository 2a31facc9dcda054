"""Time-series encoder: U-TAE at full resolution, blind to padded dates."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ...engine.errors import TileError
from ...kernels import dispatch
from ...kernels.temporal_aggregate import temporal_aggregate
from ...kernels.temporal_attention import AttentionWeights, temporal_attention
from .spec import CONV_GROUPS, SeriesSpec

__all__ = ["SeriesEncoder"]

_ATTENTION_DROPOUT = 0.1
_CONTEXT_DROPOUT = 0.2


class _Layers(nn.Module):
    """3 x 3 convolutions with reflected borders, each normalised and rectified."""

    def __init__(self, *widths: int, norm: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers.append(nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect"))
            layers.append(nn.GroupNorm(CONV_GROUPS, after) if norm == "group" else nn.BatchNorm2d(after))
            layers.append(nn.ReLU())
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _Block(nn.Module):
    """The same behind one more name, as checkpoints have it at both ends of the encoder."""

    def __init__(self, *widths: int, norm: str) -> None:
        super().__init__()
        self.conv = _Layers(*widths, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _Down(nn.Module):
    """Three convolutions, the last one residual; no stride."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.down = _Layers(before, before, norm="group")
        self.conv1 = _Layers(before, after, norm="group")
        self.conv2 = _Layers(after, after, norm="group")

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.down(x))
        out: Tensor = x + self.conv2(x)
        return out


class _Up(nn.Module):
    """Joins a deeper map with a skip; no stride."""

    def __init__(self, before: int, after: int, skip: int) -> None:
        super().__init__()
        self.skip_conv = nn.Sequential(nn.Conv2d(skip, skip, 1), nn.BatchNorm2d(skip), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
        self.conv1 = _Layers(after + skip, after, norm="batch")
        self.conv2 = _Layers(after, after, norm="batch")

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.conv1(torch.cat([self.up(x), self.skip_conv(skip)], dim=1))
        out: Tensor = x + self.conv2(x)
        return out


class _Queries(nn.Module):
    """Learned queries and the projection to keys."""

    def __init__(self, heads: int, d_key: int, d_model: int) -> None:
        super().__init__()
        self.Q = nn.Parameter(torch.empty(heads, d_key))
        self.fc1_k = nn.Linear(d_model, heads * d_key)
        nn.init.normal_(self.Q, std=(2 / d_key) ** 0.5)
        nn.init.normal_(self.fc1_k.weight, std=(2 / d_key) ** 0.5)


class _TemporalEncoder(nn.Module):
    """Collapses the dates of every pixel into one vector."""

    def __init__(self, spec: SeriesSpec) -> None:
        super().__init__()
        width = spec.encoder_widths[-1]
        self.inconv = nn.Conv1d(width, spec.d_model, 1)
        self.attention_heads = _Queries(spec.heads, spec.d_key, spec.d_model)
        self.in_norm = nn.GroupNorm(spec.heads, width)
        self.out_norm = nn.GroupNorm(spec.heads, width)
        self.mlp = nn.Sequential(nn.Linear(spec.d_model, width), nn.BatchNorm1d(width), nn.ReLU())
        self.dropout = nn.Dropout(_CONTEXT_DROPOUT)

    def forward(self, features: Tensor, days: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, C, Y, X] to [B, C, Y, X] and the attention [B, H, T, Y, X]."""
        weights = AttentionWeights(
            norm_scale=self.in_norm.weight,
            norm_shift=self.in_norm.bias,
            embed=self.inconv.weight[..., 0],
            embed_bias=self.inconv.bias if self.inconv.bias is not None else self.inconv.weight.new_zeros(()),
            key=self.attention_heads.fc1_k.weight,
            key_bias=self.attention_heads.fc1_k.bias,
            query=self.attention_heads.Q,
        )
        dropout = _ATTENTION_DROPOUT if self.training else 0.0
        context, attention = temporal_attention(features, days, mask, weights=weights, dropout=dropout)
        B, D, Y, X = context.shape
        pixels = context.permute(0, 2, 3, 1).reshape(B * Y * X, D)
        out = self.out_norm(self.dropout(self.mlp(pixels)))
        return out.reshape(B, Y, X, -1).permute(0, 3, 1, 2), attention


class SeriesEncoder(nn.Module):
    """U-TAE: a shared spatial encoder per date, attention over dates, a spatial decoder.

    Everything stays at the series' own resolution. Dates outside the mask change nothing, whatever they hold.
    Where every date is masked, and with T = 0, the attention is zero everywhere: the maps are finite and tell
    nothing but that there is no date.

    Source: Sainte Fare Garnot and Landrieu, "Panoptic Segmentation of Satellite Image Time Series with
    Convolutional Temporal Attention Networks", ICCV 2021.
    """

    def __init__(self, spec: SeriesSpec) -> None:
        super().__init__()
        down, up = spec.encoder_widths, spec.decoder_widths
        self._name = spec.name
        self.in_conv = _Block(spec.channels, down[0], down[0], norm="group")
        self.down_blocks = nn.ModuleList(_Down(before, after) for before, after in pairwise(down))
        self.up_blocks = nn.ModuleList(_Up(up[i], up[i - 1], down[i - 1]) for i in range(len(up) - 1, 0, -1))
        self.temporal_encoder = _TemporalEncoder(spec)
        self.out_conv = _Block(up[0], *spec.out_widths, norm="batch")

    def forward(self, pixels: Tensor, days: Tensor, mask: Tensor) -> list[Tensor]:
        """Encode series.

        Args:
            pixels: [B, T, C, Y, X] raw numbers; Y and X at least 2.
            days: [B, T] days from the reference date.
            mask: [B, T] true or 1 for a real date, false or 0 for padding.

        Returns:
            Maps [B, C_l, Y, X], deepest first: the map right after the attention, then one per decoder block.

        Raises:
            TileError: for tiles of a single row or column, which cannot be reflected at their borders.
        """
        B, T, _, Y, X = pixels.shape
        if min(Y, X) < 2:
            raise TileError(f"{self._name}: tile of {Y} x {X} px cannot be reflected at its border; use at least 2 x 2")
        kept = mask.to(pixels.dtype)
        # what padding holds must not even reach the convolutions: it may be anything, NaN too
        pixels = torch.where(kept[:, :, None, None, None] != 0, pixels, torch.zeros_like(pixels))
        dates = pixels.flatten(0, 1)
        if dispatch.fused(pixels):
            # kernels read a pixel's channels as one row; maps that lie so from the start are never copied
            dates = dates.contiguous(memory_format=torch.channels_last)
        levels = [self.in_conv(dates)]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        series = [level.reshape(B, T, *level.shape[1:]) for level in levels]
        out, attention = self.temporal_encoder(series[-1], days, kept)
        maps = [out]
        skips = temporal_aggregate(series[-2::-1], attention)
        for block, skip in zip(self.up_blocks, skips, strict=True):
            maps.append(block(maps[-1], skip))
        return maps

    def classify(self, maps: list[Tensor]) -> Tensor:
        """Scores [B, classes of all tasks, Y, X] from the maps; not negative, for the last layer rectifies."""
        out: Tensor = self.out_conv(maps[-1])
        return out
