"""The kernels that a plan needs on a GPU, from what its manifest says and from the sizes of its temporal attentions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import BackendError
from .limits import aggregate_limit, attention_limit, classify_limit, dates_limit
from .numbers import resize_steps
from .requests import (
    AGGREGATED_MAPS,
    KernelRequest,
    aggregate_request,
    attention_request,
    classify_request,
    fusion_request,
    prepare_request,
)
from .types import KERNEL_TYPES

if TYPE_CHECKING:
    from ..plan.manifest import Manifest

__all__ = ["SHORT_TYPES", "AttentionShape", "check_attention", "plan_requests"]

SHORT_TYPES = {"float32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "fp16", "fp8": "fp16"}
"""Precision of a payload -> type of the maps between its parts, by Triton's names."""
_LOGITS = "fp32"


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of a series' temporal attention.

    Attributes:
        heads: H.
        channels: C of the features that it looks at.
        embedding: D, channels of the context that it gives.
        summed: channels of the maps that it sums over dates, in the order of the doors `sum0`, `sum1` ...
    """

    heads: int
    channels: int
    embedding: int
    summed: tuple[int, ...]


def plan_requests(
    manifest: Manifest,
    *,
    attention: Mapping[str, AttentionShape],
    precision: str,
    dates: Sequence[int],
) -> tuple[KernelRequest, ...]:
    """Every kernel that a plan needs on a GPU, each once.

    Args:
        manifest: of the plan.
        attention: series -> sizes of its attention, for series whose encoder is cut at our kernels; none of a series
            that TensorRT runs whole.
        precision: of products: "float32", "fp16", "bf16", "int8" or "fp8".
        dates: numbers of dates that series are padded to.

    Returns:
        The requests, in the order in which data runs.

    Raises:
        BackendError: the kernels cannot serve the network.
    """
    for series, shape in attention.items():
        check_attention(series, shape, dates=dates)
    short = SHORT_TYPES[precision]
    requests = [
        *_prepares(manifest, short),
        *(each for shape in attention.values() for each in _attends(shape, short, dates)),
        *_fuses(manifest, short),
        *_classifies(manifest),
    ]
    return tuple(dict.fromkeys(requests))


def check_attention(series: str, shape: AttentionShape, *, dates: Iterable[int]) -> None:
    """Refuse a series whose encoder cannot be cut at our kernels.

    Args:
        series: its name.
        shape: sizes of its attention.
        dates: numbers of dates that it is padded to.

    Raises:
        BackendError: what the kernels cannot serve, and how to do without them.
    """
    reasons = {
        "temporal_attention": (
            attention_limit(heads=shape.heads, channels=shape.channels, embedding=shape.embedding),
            dates_limit(max(dates, default=0)),
        ),
        "temporal_aggregate": (aggregate_limit(heads=shape.heads, channels=shape.summed),),
    }
    found = [f"{kernel}: {reason}" for kernel, some in reasons.items() for reason in some if reason]
    if found:
        raise BackendError(f"{series} cannot be cut at our kernels: {'; '.join(found)}; build with --no-kernels")


def _prepares(manifest: Manifest, short: str) -> Iterator[KernelRequest]:
    for modality in manifest.modalities:
        if modality.kind == "image":
            sample = KERNEL_TYPES[modality.dtype]
            # the first layers of digital numbers in floating point are float32, too
            dtype = "fp32" if sample == "fp32" else short
            yield prepare_request(sample=sample, dtype=dtype, pixels=modality.tile_px**2)


def _attends(shape: AttentionShape, short: str, dates: Iterable[int]) -> Iterator[KernelRequest]:
    for each in dates:
        yield attention_request(
            heads=shape.heads, channels=shape.channels, embedding=shape.embedding, dtype=short, dates=each
        )
    for start in range(0, len(shape.summed), AGGREGATED_MAPS):
        some = shape.summed[start : start + AGGREGATED_MAPS]
        yield aggregate_request(heads=shape.heads, channels=some, dtype=short)


def _fuses(manifest: Manifest, short: str) -> Iterator[KernelRequest]:
    if manifest.fusion == "none":
        return
    # maps of all modalities have the base's channels
    for level in manifest.segment(f"encoder:{manifest.base}").outputs:
        channels = level.shape[1]
        assert isinstance(channels, int), f"{level.name} has {channels} channels"
        yield fusion_request(channels=channels, dtype=short)


def _classifies(manifest: Manifest) -> Iterator[KernelRequest]:
    grids: tuple[Literal["label", "base"], ...] = ("label", "base")
    logits_yx = (manifest.logits_px, manifest.logits_px)
    for grid in grids:
        resizes = [((step.px, step.px), step.align_corners) for step in manifest.resizes(grid=grid)]
        limit = classify_limit(resize_steps(logits_yx, resizes=resizes))
        if limit:
            raise BackendError(f"maps of the {grid} grid: classify: {limit}; run the plan on device='cpu'")
        map_yx = resizes[-1][0] if resizes else logits_yx
        yield classify_request(dtype=_LOGITS, logits_yx=logits_yx, map_yx=map_yx, resizes=resizes)
