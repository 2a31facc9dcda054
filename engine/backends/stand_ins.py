"""The learned vectors that take the place of a modality that is absent, read from a plan without running anything."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from ..plan.plan import Plan
from .segment_graph import segment_graph

__all__ = ["stand_in_vectors"]


def stand_in_vectors(plan: Plan, modality: str) -> tuple[NDArray[np.float32], ...]:
    """Vectors [C] of every level of a modality's stand-in.

    Args:
        plan: an open plan.
        modality: that may be absent.

    Raises:
        PlanError: the plan's graph is none, or computes instead of storing.
    """
    # OpenVINO takes half a second to import, and a plan without stand-ins needs none of it
    from .cpu.graphs import constants
    from .openvino_core import openvino_core

    segment = plan.manifest.segment(f"absent:{modality}")
    graph = io.BytesIO(segment_graph(plan, segment.name))
    maps = constants(openvino_core().read_model(graph), segment)
    return tuple(np.ascontiguousarray(level.reshape(-1), dtype=np.float32) for level in maps)
