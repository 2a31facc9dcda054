"""What the kernels are asked for by LC-F and LC-L, as it follows from the networks' specifications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.kernels.catalogue import kernel_specs
from uperfuse.kernels.launch import DTYPES
from uperfuse.trainer.network import ImageSpec, NetworkSpec, SeriesSpec

from ..networks import DATES, NETWORKS
from .shapes import Classify, Prepare, PyramidFusion, Shape, TemporalAggregate, TemporalAttention, WindowAttention

__all__ = ["Case", "cases", "shapes_in", "shapes_of"]

_HEAD_SCALE = 4
"""By which UPerNet's logits are enlarged."""


def shapes_of(network: NetworkSpec) -> Counter[Shape]:
    """Every call that one tile makes, and how often."""
    shapes = Counter[Shape](Prepare(image.name) for image in network.images)
    for modality in network.modalities:
        shapes += shapes_in(network, modality)
    shapes.update(_fusion(network))
    base = network.images[0]
    quarter = base.backbone.level_sides(base.tile_px)[0]
    shapes.update(Classify(quarter, task.classes, _HEAD_SCALE) for task in network.tasks)
    return shapes


def shapes_in(network: NetworkSpec, modality: str) -> Counter[Shape]:
    """Every call that the encoder of a modality makes, and how often."""
    image = network.image(modality)
    if image is not None:
        return Counter(_windows(image))
    return Counter(_series(next(each for each in network.series if each.name == modality)))


def _series(series: SeriesSpec) -> Iterator[Shape]:
    side = MODALITIES[series.name].tile_px
    *skips, deepest = series.encoder_widths
    yield TemporalAttention(DATES, side, deepest, series.d_model, series.heads, series.d_key)
    yield TemporalAggregate(DATES, side, tuple(reversed(skips)), series.heads)


def _windows(image: ImageSpec) -> Iterator[Shape]:
    """Every second block of a stage is shifted, unless the stage is one window."""
    backbone = image.backbone
    stages = (backbone.level_sides(image.tile_px), backbone.depths, backbone.heads, backbone.windows)
    for side, depth, heads, window in zip(*stages, strict=True):
        for block in range(depth):
            yield WindowAttention(side, heads, window, window // 2 if block % 2 and side > window else 0)


def _fusion(network: NetworkSpec) -> Iterator[Shape]:
    """Each level in both forms: networks project while they fuse, plans have encoders that projected already."""
    base, *others = (image.backbone.level_sides(image.tile_px) for image in network.images)
    coarse = [MODALITIES[series.name].tile_px for series in network.series]
    for level, channels in enumerate(network.images[0].backbone.dims):
        sides = (*(sides[level] for sides in others), *coarse)
        for projected in (False, True):
            yield PyramidFusion(base[level], channels, sides, projected)


@dataclass(frozen=True)
class Case:
    """One benchmark."""

    shape: Shape
    dtype: torch.dtype

    def __str__(self) -> str:
        name = DTYPES[self.dtype]
        return f"{self.shape.kernel}: {self.shape}, {name}"


def cases() -> list[Case]:
    """Every shape of LC-F and LC-L with every dtype that its kernel is declared for."""
    admitted = {spec.name: spec.admits["T"] for spec in kernel_specs() if "T" in spec.admits}
    by_name = {name: dtype for dtype, name in DTYPES.items()}
    shapes = dict.fromkeys(shape for network in NETWORKS.values() for shape in shapes_of(network))
    return [Case(shape, by_name[dtype]) for shape in shapes for dtype in admitted[shape.kernel]]
