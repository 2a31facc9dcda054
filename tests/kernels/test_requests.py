"""What a plan is said to need on a GPU is what the operations launch on a tile of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uperfuse.engine import Plan
from uperfuse.engine.launching import AttentionShape, KernelRequest, plan_requests
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.plan.network import Modality
from uperfuse.kernels.classify import Resize, classify
from uperfuse.kernels.launch import Launch, collect
from uperfuse.kernels.prepare import Channels, prepare
from uperfuse.kernels.pyramid_fusion import pyramid_fusion
from uperfuse.kernels.temporal_aggregate import temporal_aggregate
from uperfuse.kernels.temporal_attention import AttentionWeights, temporal_attention

DATES = (16, 96)
TYPES = {"float32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def _request(launch: Launch) -> KernelRequest:
    return KernelRequest(launch.spec.name, launch.variant.types, launch.variant.constants)


def _shape(series) -> AttentionShape:
    *skips, deepest = series.encoder_widths
    return AttentionShape(series.heads, deepest, series.d_model, summed=tuple(skips))


def _prepare(modality: Modality, short: torch.dtype) -> None:
    index = {band: place for place, band in enumerate(modality.bands)}
    channels = Channels.of(
        band=[index[channel.band] for channel in modality.channels],
        minus=[-1 if channel.minus is None else index[channel.minus] for channel in modality.channels],
        mean=[channel.mean for channel in modality.channels],
        std=[channel.std for channel in modality.channels],
    )
    digits = np.zeros((1, len(modality.bands), modality.tile_px, modality.tile_px), modality.dtype)
    dtype = torch.float32 if modality.dtype == "float32" else short
    prepare(torch.from_numpy(digits), channels=channels, dtype=dtype)


def _attend(shape: AttentionShape, modality: Modality, *, dates: int, dtype: torch.dtype) -> None:
    H, C, D, side = shape.heads, shape.channels, shape.embedding, modality.tile_px
    weights = AttentionWeights(
        norm_scale=torch.ones(C),
        norm_shift=torch.zeros(C),
        embed=torch.zeros(D, C),
        embed_bias=torch.zeros(D),
        key=torch.zeros(4 * H, D),
        key_bias=torch.zeros(4 * H),
        query=torch.zeros(H, 4),
    )
    features = torch.zeros(1, dates, C, side, side, dtype=dtype)
    days, mask = torch.zeros(1, dates), torch.ones(1, dates)
    _, attention = temporal_attention(features, days, mask, weights=weights)
    maps = [torch.zeros(1, dates, each, side, side, dtype=dtype) for each in shape.summed]
    temporal_aggregate(maps, attention)


def _map(manifest: Manifest, shapes: dict[str, AttentionShape], *, precision: str) -> None:
    """Every operation between a plan's parts, for one tile."""
    dtype = TYPES[precision]
    for modality in manifest.modalities:
        if modality.kind == "image":
            _prepare(modality, dtype)
        else:
            for dates in DATES:
                _attend(shapes[modality.name], modality, dates=dates, dtype=dtype)
    encoders = [manifest.segment(f"encoder:{modality.name}") for modality in manifest.modalities]
    for level in zip(*(encoder.outputs for encoder in encoders), strict=True):
        maps = [torch.zeros(1, *each.shape[1:], dtype=dtype) for each in level]
        pyramid_fusion(maps, size=tuple(maps[0].shape[2:]))
    for task in manifest.tasks:
        logits = torch.zeros(1, len(task.classes), manifest.logits_px, manifest.logits_px)
        for grid in ("label", "base"):
            classify(logits, resizes=[Resize((e.px, e.px), e.align_corners) for e in manifest.resizes(grid=grid)])


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("name", ["aerial", "all", "series"])
def test_a_plan_asks_for_what_its_steps_launch(plans, name, precision):
    path, network = plans(name)
    shapes = {series.name: _shape(series) for series in network.spec.series}
    with Plan.open(path) as plan, collect() as launches:
        _map(plan.manifest, shapes, precision=precision)
        asked = plan_requests(plan.manifest, attention=shapes, precision=precision, dates=DATES)
    launched = [_request(launch) for launch in launches]
    assert set(asked) == set(launched)
    assert len(asked) == len(set(asked))
    assert len(launched) >= len(asked) > 1
