"""What the kernels are asked for by LC-F and LC-L: shapes that follow from the networks' specifications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch.nn import functional as F

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.kernels.catalogue import kernel_specs
from uperfuse.kernels.classify import Resize, classify
from uperfuse.kernels.classify import reference as classify_reference
from uperfuse.kernels.launch import DTYPES
from uperfuse.kernels.prepare import Channels, prepare
from uperfuse.kernels.prepare import reference as prepare_reference
from uperfuse.kernels.pyramid_fusion import project_and_fuse, pyramid_fusion
from uperfuse.kernels.pyramid_fusion import reference as fusion_reference
from uperfuse.kernels.temporal_aggregate import reference as aggregate_reference
from uperfuse.kernels.temporal_aggregate import temporal_aggregate
from uperfuse.kernels.temporal_attention import AttentionWeights, temporal_attention
from uperfuse.kernels.temporal_attention import reference as attention_reference
from uperfuse.kernels.window_attention import reference as window_reference
from uperfuse.kernels.window_attention import window_attention
from uperfuse.kernels.window_attention.reference import HEAD_WIDTH
from uperfuse.trainer.network import ImageSpec, NetworkSpec, SeriesSpec

from ..networks import DATES, NETWORKS
from .draw import Call, Draw

__all__ = ["Case", "Shape", "cases", "shapes_in", "shapes_of"]


_HEAD_SCALE = 4
"""By which UPerNet's logits are enlarged."""


class Shape(Protocol):
    """One call of a kernel but for its dtype."""

    kernel: ClassVar[str]

    @property
    def form(self) -> str:
        """Which of the kernel's forms it is, where there are several."""
        ...

    def __hash__(self) -> int: ...

    def make(self, draw: Draw) -> Call:
        """The call, on inputs that lie in memory as the kernel wants them."""
        ...


@dataclass(frozen=True)
class TemporalAttention:
    """Attention over a series' deepest map."""

    kernel: ClassVar[str] = "temporal_attention"
    form: ClassVar[str] = ""

    dates: int
    side: int
    channels: int
    embedding: int
    heads: int
    key: int

    def __str__(self) -> str:
        return f"{self.dates} dates, {self.side} px, {self.channels} channels"

    def make(self, draw: Draw) -> Call:
        """The call."""
        C, D, H, K = self.channels, self.embedding, self.heads, self.key
        weights = AttentionWeights(
            norm_scale=1 + draw.normal(C, scale=0.1),
            norm_shift=draw.normal(C, scale=0.1),
            embed=draw.normal(D, C, scale=C**-0.5),
            embed_bias=draw.normal(D, scale=0.1),
            key=draw.normal(H * K, D, scale=D**-0.5),
            key_bias=draw.normal(H * K, scale=0.1),
            query=draw.normal(H, K),
        )
        features = draw.normal(1, self.dates, self.side, self.side, C).movedim(-1, 2)
        days = draw.held(torch.linspace(-120, 240, self.dates).round()[None])
        mask = draw.held(torch.ones(1, self.dates))
        return Call(
            temporal_attention, attention_reference.temporal_attention, (features, days, mask), {"weights": weights}
        )


@dataclass(frozen=True)
class TemporalAggregate:
    """Skip maps of a series, summed over dates."""

    kernel: ClassVar[str] = "temporal_aggregate"
    form: ClassVar[str] = ""

    dates: int
    side: int
    channels: tuple[int, ...]
    heads: int

    def __str__(self) -> str:
        return f"{self.dates} dates, {self.side} px, {' + '.join(map(str, self.channels))} channels"

    def make(self, draw: Draw) -> Call:
        """The call."""
        size = (1, self.dates, self.side, self.side)
        maps = [draw.normal(*size, C).movedim(-1, 2) for C in self.channels]
        attention = draw.shares(*size, self.heads).movedim(-1, 1)
        return Call(temporal_aggregate, aggregate_reference.temporal_aggregate, (maps, attention))


@dataclass(frozen=True)
class PyramidFusion:
    """One level of the pyramid: the first image's map, projected, and the others' projected maps."""

    kernel: ClassVar[str] = "pyramid_fusion"

    side: int
    channels: int
    others: tuple[int, ...]
    projected: bool

    @property
    def form(self) -> str:
        """Which of the kernel's forms it is."""
        return "sum of projected maps" if self.projected else ""

    def __str__(self) -> str:
        others = " + ".join(map(str, self.others))
        return f"{self.side} px + {others} px, {self.channels} channels" + (f", {self.form}" if self.form else "")

    def make(self, draw: Draw) -> Call:
        """The call."""
        C, size = self.channels, (self.side, self.side)
        base = draw.normal(1, *size, C).movedim(-1, 1)
        maps = [draw.normal(1, side, side, C).movedim(-1, 1) for side in self.others]
        if self.projected:
            return Call(pyramid_fusion, fusion_reference.pyramid_fusion, ([base, *maps],), {"size": size})
        weight, bias = draw.normal(C, C, 1, 1, scale=C**-0.5), draw.normal(C)
        keywords = {"weight": weight, "bias": bias, "maps": maps}
        return Call(project_and_fuse, fusion_reference.project_and_fuse, (base,), keywords)


@dataclass(frozen=True)
class WindowAttention:
    """The attention of one block of a Swin backbone."""

    kernel: ClassVar[str] = "window_attention"
    form: ClassVar[str] = ""

    side: int
    heads: int
    window: int
    shift: int

    def __str__(self) -> str:
        shift = f" shifted by {self.shift}" if self.shift else ""
        return f"{self.side} px, {self.heads} heads, windows of {self.window} px{shift}"

    def make(self, draw: Draw) -> Call:
        """The call; the rival gets windows that are cut already, and bias and mask in one tensor."""
        C, tokens = self.heads * HEAD_WIDTH, self.window**2
        arguments = (
            draw.normal(1, self.side, self.side, 3 * C),
            draw.normal((2 * self.window - 1) ** 2, self.heads),
            draw.normal(3 * C),
        )
        keywords = {"heads": self.heads, "window": (self.window,) * 2, "shift": (self.shift,) * 2}
        windows = (-(-self.side // self.window)) ** 2
        q, k, v = (draw.normal(windows, self.heads, tokens, HEAD_WIDTH) for _ in range(3))
        bias = draw.normal(windows if self.shift else 1, self.heads, tokens, tokens)
        return Call(
            window_attention,
            window_reference.window_attention,
            arguments,
            keywords,
            {"scaled_dot_product_attention": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias)},
        )


@dataclass(frozen=True)
class Prepare:
    """The bands in use of one image modality, as its files hold them, to a network's channels."""

    kernel: ClassVar[str] = "prepare"
    form: ClassVar[str] = ""

    modality: str

    def __str__(self) -> str:
        facts = MODALITIES[self.modality]
        return f"{len(facts.usual)} bands of {facts.dtype}, {facts.tile_px} px"

    def make(self, draw: Draw) -> Call:
        """The call."""
        facts = MODALITIES[self.modality]
        shape = (1, len(facts.usual), facts.tile_px, facts.tile_px)
        if facts.dtype == "float32":
            pixels = draw.normal(*shape, scale=100, dtype=torch.float32)
        else:
            pixels = draw.integers(*shape, end=256, dtype=getattr(torch, facts.dtype))
        elevation = "HEIGHT" in facts.statistics
        statistics = facts.statistics.values() if elevation else [facts.statistics[band] for band in facts.usual]
        mean, std = zip(*statistics, strict=True)
        # height above ground is the second channel of elevation: surface less terrain
        made = {"band": (0, 0), "minus": (-1, 1)} if elevation else {"band": range(len(facts.usual))}
        channels = Channels.of(**made, mean=mean, std=std, device=draw.device)
        keywords = {"channels": channels, "dtype": draw.computed}
        return Call(prepare, prepare_reference.prepare, (pixels,), keywords)


@dataclass(frozen=True)
class Classify:
    """Logits at a quarter of the tile to its labels."""

    kernel: ClassVar[str] = "classify"
    form: ClassVar[str] = ""

    side: int
    classes: int
    scale: int

    def __str__(self) -> str:
        return f"{self.classes} classes, {self.side} px to {self.scale * self.side} px"

    def make(self, draw: Draw) -> Call:
        """The call."""
        logits = draw.normal(1, self.classes, self.side, self.side, scale=4)
        resize = Resize((self.scale * self.side,) * 2, align_corners=True)
        return Call(classify, classify_reference.classify, (logits,), {"resizes": [resize]})


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
