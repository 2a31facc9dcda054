"""What a network costs: weights, and operations for one tile, counted alike for plans and for weights in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ...engine.plan.manifest import Manifest
from ..export.rewrite import rewritten
from ..export.segments import segments_of
from ..network import UPerFuse

__all__ = ["COUNTED_DATES", "Cost", "cost_of_network", "cost_of_plan"]

COUNTED_DATES = 32
"""Acquisitions of each series for which operations are counted, as in a plan."""


@dataclass(frozen=True)
class Cost:
    """Of all encoders and decoders together, with every modality there.

    Attributes:
        parameters: number of weights that inference uses; a plan's are counted in its graphs, where some are merged.
        gflop: floating point operations in billions for one tile, a multiply-add being two; series at `COUNTED_DATES`.
    """

    parameters: int
    gflop: float


def cost_of_plan(manifest: Manifest) -> Cost:
    """Cost of a plan at its own tiles, by what its segments say."""
    return Cost(
        sum(segment.parameters for segment in manifest.segments),
        sum(segment.gflop for segment in manifest.segments),
    )


def cost_of_network(network: UPerFuse, *, tiles_px: Mapping[str, int]) -> Cost:
    """Cost of a network for tiles of some sides, segment by segment as an export counts it.

    Args:
        network: in evaluation mode, on the processor.
        tiles_px: modality -> side of a tile in its own pixels.
    """
    weights: dict[int, Tensor] = {}  # by identity, for encoders may be shared
    operations = 0
    for segment in segments_of(network, tiles_px=dict(tiles_px)):
        if not segment.inputs:
            continue
        weights |= {id(weight): weight for weight in segment.module.parameters()}
        inputs = [example[:1] for example in segment.inputs.values()]
        if segment.series:
            inputs = [example[:, :1].repeat_interleave(COUNTED_DATES, 1) for example in inputs]
        module = rewritten(segment).module
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*inputs)
        operations += counter.get_total_flops()
    weights |= {id(weight): weight for weight in network.absent.parameters()}
    return Cost(sum(weight.numel() for weight in weights.values()), operations / 1e9)
