"""The network cut into segments, each a module with named inputs and outputs that becomes one ONNX graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..network import UPerFuse
from ..network.images import ImageEncoder
from ..network.series import SeriesEncoder

__all__ = ["SegmentModule", "segments_of"]

_EXAMPLE_DATES = 7


@dataclass(frozen=True)
class SegmentModule:
    """One segment before export.

    Attributes:
        name: `encoder:<MODALITY>`, `absent:<MODALITY>` or `decode:<TASK>`.
        module: what it computes; None for a stand-in, which is constant.
        inputs: name -> example, with the batch first; series have their dates second.
        outputs: names, finest level first.
        series: the second axis of every input is a number of dates.
        lender: segment that has weights in common with this one, and holds them in the plan.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    series: bool = False
    lender: str | None = None


class _Projection(nn.Module):
    """One modality's slice of the fusion weights, cut out so that a segment stores no more than it uses."""

    def __init__(self, network: UPerFuse, modality: str) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        slices = network.fusion_slices(modality) if network.spec.fused else []
        for weight, bias in slices:
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=bias is not None)
            convolution.weight = nn.Parameter(weight.detach().clone())
            if bias is not None:
                convolution.bias = nn.Parameter(bias.detach().clone())
            self.convolutions.append(convolution)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if not len(self.convolutions):
            return tuple(maps)
        return tuple(convolution(level) for convolution, level in zip(self.convolutions, maps, strict=True))


class _ImageEncoder(nn.Module):
    def __init__(self, network: UPerFuse, modality: str) -> None:
        super().__init__()
        self.encoder = network.encoders[modality]
        self.projection = _Projection(network, modality)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        maps: tuple[Tensor, ...] = self.projection(self.encoder(pixels))
        return maps


class _SharingEncoder(nn.Module):
    """An image's own stem, and behind it the stages of the first image's encoder."""

    def __init__(self, network: UPerFuse, modality: str) -> None:
        super().__init__()
        self.stem = network.encoders[modality]
        self.encoder = cast(ImageEncoder, network.encoders[network.spec.images[0].name])
        self.projection = _Projection(network, modality)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        maps: tuple[Tensor, ...] = self.projection(self.encoder.stages(self.stem(pixels)))
        return maps


class _SeriesEncoder(nn.Module):
    def __init__(self, network: UPerFuse, modality: str) -> None:
        super().__init__()
        self.encoder = cast(SeriesEncoder, network.encoders[modality])
        self.pyramid = bool(network.spec.images)
        self.projection = _Projection(network, modality)

    def forward(self, pixels: Tensor, days: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        maps = self.encoder(pixels, days, mask)
        result: tuple[Tensor, ...] = self.projection(maps if self.pyramid else [self.encoder.classify(maps)])
        return result


class _StandIn(nn.Module):
    def __init__(self, network: UPerFuse, modality: str) -> None:
        super().__init__()
        self.network = network
        self.modality = modality

    def forward(self) -> tuple[Tensor, ...]:
        return tuple(self.network.project(self.modality, self.network.stand_in(self.modality)))


class _Decoder(nn.Module):
    """A task's decoder alone, so that a segment's module holds nothing of the rest of the network."""

    def __init__(self, network: UPerFuse, task: str) -> None:
        super().__init__()
        self.pyramid = bool(network.spec.images)
        # see `UPerFuse.decode`
        used = self.pyramid or len(network.spec.tasks) > 1
        self.decoder = network.main_decoders[task] if used else nn.Identity()

    def forward(self, *pyramid: Tensor) -> Tensor:
        logits: Tensor = self.decoder(pyramid if self.pyramid else pyramid[0])
        return logits


def segments_of(network: UPerFuse, *, tiles_px: dict[str, int]) -> Iterator[SegmentModule]:
    """Every segment of `network` for tiles of the given sides, with examples of its inputs.

    Args:
        network: in evaluation mode.
        tiles_px: modality -> side of a tile in pixels of that sensor.
    """
    spec = network.spec
    base: tuple[Tensor, ...] = ()
    for image in spec.images:
        side = tiles_px[image.name]
        shares = image.name in spec.shared
        module = _SharingEncoder(network, image.name) if shares else _ImageEncoder(network, image.name)
        pixels = torch.randn(2, image.channels, side, side)  # [B, C, Y, X]
        maps = _run(module, pixels)
        base = base or maps
        lender = f"encoder:{spec.images[0].name}" if shares else None
        yield SegmentModule(f"encoder:{image.name}", module, {"pixels": pixels}, _levels(len(maps)), lender=lender)
    for series in spec.series:
        side = tiles_px[series.name]
        temporal = _SeriesEncoder(network, series.name)
        inputs = {
            "pixels": torch.rand(2, _EXAMPLE_DATES, series.channels, side, side) * 1000,  # [B, T, C, Y, X]
            "days": torch.linspace(-120.0, 220.0, _EXAMPLE_DATES).repeat(2, 1),  # [B, T]
            "mask": torch.ones(2, _EXAMPLE_DATES),  # [B, T]
        }
        maps = _run(temporal, *inputs.values())
        base = base or maps
        yield SegmentModule(f"encoder:{series.name}", temporal, inputs, _levels(len(maps)), series=True)
    for name in spec.absent:
        yield SegmentModule(f"absent:{name}", _StandIn(network, name), {}, _levels(len(base)))
    for task in spec.tasks:
        names = _levels(len(base))
        decoder = _Decoder(network, task.name)
        yield SegmentModule(f"decode:{task.name}", decoder, dict(zip(names, base, strict=True)), ("logits",))


def _levels(count: int) -> tuple[str, ...]:
    return tuple(f"level{level}" for level in range(count))


def _run(module: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        maps = module(*inputs)
    return tuple(level.clone() for level in maps)
