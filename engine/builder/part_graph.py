"""A part of a plan on its way to TensorRT: in float32 as it was exported, then with types written into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from ..plan.payloads import Door

__all__ = ["AttentionArrays", "FloatPart", "PartGraph", "Precision", "segment_tensor"]

Precision = Literal["float32", "fp16", "bf16"]
"""Type of products that are not quantised, and of the maps between parts."""

_RENAMED = "@"


@dataclass(frozen=True)
class AttentionArrays:
    """Parameters of a series' temporal attention as its kernel takes them, float32.

    C channels of the features, D of the embedding, H heads, P = D / H.

    Attributes:
        norm_scale: [C] scale of the normalisation in front; its epsilon is 1e-5.
        norm_shift: [C] its shift.
        score: [H, C] what a score takes from normalised features.
        score_position: [H, P] what it takes from positions.
        score_bias: [H].
        embed: [D, C] from features to embedding, heads outermost.
        embed_bias: [D].
        period: of the slowest sinusoid of positions, in days over 2 pi.
    """

    norm_scale: NDArray[np.float32]
    norm_shift: NDArray[np.float32]
    score: NDArray[np.float32]
    score_position: NDArray[np.float32]
    score_bias: NDArray[np.float32]
    embed: NDArray[np.float32]
    embed_bias: NDArray[np.float32]
    period: float


@dataclass(frozen=True)
class FloatPart:
    """A part in float32, with the doors it will have: maps lie channels last.

    Attributes:
        name: `encoder:<MODALITY>`, `spatial:<SERIES>`, `temporal:<SERIES>` or `decode:<TASK>`.
        model: the graph. Tensors carry the names that they have in the segment; see `segment_tensor`.
        segment: name of the segment that it is made of.
        float_doors: doors that stay in float32 whatever the precision.
        float_nodes: nodes that stay in float32 for a reason that the graph does not tell: layers that take raw
            numbers, an attention's, those that make logits.
    """

    name: str
    model: onnx.ModelProto
    segment: str
    float_doors: frozenset[str] = frozenset()
    float_nodes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PartGraph:
    """A part with its types written into it: what a strongly typed network is parsed from.

    Attributes:
        name: of the part.
        model: the serialised ONNX graph.
        inputs: what it takes, in order.
        outputs: what it gives, in order.
        islands: names of nodes that compute in float32; TensorRT's layers carry them.
        layers: what was done: operation -> type that it computes in -> number of nodes.
    """

    name: str
    model: bytes
    inputs: tuple[Door, ...]
    outputs: tuple[Door, ...]
    islands: tuple[str, ...]
    layers: Mapping[str, Mapping[str, int]]


def segment_tensor(name: str) -> str:
    """Name that a part's tensor has in its segment.

    A door that lies channels last in a part takes its name there; the tensor that has it in the segment is called
    `<name>@first` in the part, and holds the same values.

    Args:
        name: of a tensor of a `FloatPart`.
    """
    return name.partition(_RENAMED)[0]
