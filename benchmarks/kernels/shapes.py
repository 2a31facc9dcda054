"""Calls of the kernels: what is drawn for them, what they are compared with, and what else computes the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch.nn import functional as F

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.kernels.classify import Resize, classify
from uperfuse.kernels.classify import reference as classify_reference
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

from .draw import Call, Draw

__all__ = [
    "Classify",
    "Prepare",
    "PyramidFusion",
    "Shape",
    "TemporalAggregate",
    "TemporalAttention",
    "WindowAttention",
]


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
            norm_scale=draw.normal(C, mean=1, scale=0.1),
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
        return "sum alone" if self.projected else ""

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
    """The bands in use of one image modality, as its files hold them, and its void mask, to a network's channels."""

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
        void = draw.integers(1, *shape[2:], end=2, dtype=torch.uint8)
        keywords = {"channels": channels, "void": void, "dtype": draw.computed}
        return Call(prepare, prepare_reference.prepare, (pixels,), keywords)


@dataclass(frozen=True)
class Classify:
    """Logits at a quarter of the tile, and its void mask, to its labels."""

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
        px = self.scale * self.side
        void = draw.integers(1, px, px, end=2, dtype=torch.uint8)
        keywords = {"resizes": [Resize((px, px), align_corners=True)], "void": void}
        return Call(classify, classify_reference.classify, (logits,), keywords)
