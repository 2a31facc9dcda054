"""A series' encoder cut where our kernels stand: `spatial` in front of the temporal attention, `temporal` behind it.

    pixels, mask -> spatial -> skip0 .., features -> attention and sums -> context, sum0 .. -> temporal -> level0 ..

Maps lie channels last at every door, as kernels read them. The halves are put together again around the attention in
NumPy and compared with the whole, so that a graph which only looks like the one expected is refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from ..agreement import relative_error
from ..backends.openvino_core import openvino_core
from ..errors import PlanError
from .attention import aggregate, attend
from .channels import cancelled, give_last, take_last
from .find_attention import FoundAttention, find_attention
from .onnx_graph import Graph, TensorType, assemble, renamed, transpose, value
from .part_graph import AttentionArrays
from .transposed import as_convolutions

__all__ = ["MAX_RELATIVE_ERROR", "Cut", "check_cut", "cut_encoder"]

MAX_RELATIVE_ERROR = 1e-5
"""Between the whole encoder and its halves around the NumPy attention: what float32 leaves of another order of sums."""

_LAST = (0, 1, 3, 4, 2)  # of a map with dates
_SEED = 20_261
_Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Cut:
    """The halves of a series' encoder, and the attention between them.

    Attributes:
        spatial: `spatial:<SERIES>`, in float32.
        temporal: `temporal:<SERIES>`, in float32.
        attention: parameters for the kernels.
    """

    spatial: onnx.ModelProto
    temporal: onnx.ModelProto
    attention: AttentionArrays


def cut_encoder(graph: Graph, *, series: str) -> Cut:
    """Cut the encoder of a series at its temporal attention.

    Args:
        graph: the segment, constants evaluated.
        series: its name.

    Raises:
        PlanError: the graph holds no temporal attention as this release exports it, or a half needs what lies in the
            other.
    """
    found, types = find_attention(graph, series=series), graph.types()
    return Cut(
        _spatial(graph, found, types, series=series), _temporal(graph, found, types, series=series), found.arrays
    )


def _spatial(graph: Graph, found: FoundAttention, types: Mapping[str, TensorType], *, series: str) -> onnx.ModelProto:
    doors = {name: f"skip{place}" for place, name in enumerate(found.maps)} | {found.features: "features"}
    # the days' values are the attention's; their number is the mask's, too
    nodes = [renamed(node, {"days": "mask"}) if node.op_type == "Shape" else node for node in graph.before(doors)]
    _check_reads(graph, nodes, {"pixels", "mask"}, series=series)
    inputs = [entry for entry in graph.model.graph.input if entry.name in ("pixels", "mask")]
    turned = [transpose(name, door, _LAST) for name, door in doors.items()]
    outputs = [value(door, [types[name].shape[axis] for axis in _LAST]) for name, door in doors.items()]
    model = assemble(graph.model, [*nodes, *turned], inputs=inputs, outputs=outputs, stored=graph.constants.values())
    return cancelled(model).model


def _temporal(graph: Graph, found: FoundAttention, types: Mapping[str, TensorType], *, series: str) -> onnx.ModelProto:
    taken = {found.context: "context"} | {name: f"sum{place}" for place, name in enumerate(found.sums)}
    behind = graph.before(graph.outputs, stop=taken)
    _check_reads(graph, behind, set(taken), series=series)
    entered, inputs = take_last(taken, types=types)
    nodes, outputs = give_last([*entered, *behind], names=graph.outputs, types=types)
    model = assemble(graph.model, nodes, inputs=inputs, outputs=outputs, stored=graph.constants.values())
    return as_convolutions(cancelled(model).model)


def _check_reads(graph: Graph, nodes: Iterable[onnx.NodeProto], allowed: set[str], *, series: str) -> None:
    """What a half reads is made in it, stored, or among its inputs."""
    nodes = list(nodes)
    known = {name for node in nodes for name in node.output} | set(graph.constants) | allowed
    beyond = sorted({name for node in nodes for name in node.input if name} - known)
    if beyond:
        raise PlanError(
            f"the encoder of {series} cannot be cut at its attention: one half reads {', '.join(beyond)}, expected "
            f"{', '.join(sorted(allowed))} alone; build with --no-kernels"
        )


def check_cut(graph: Graph, cut: Cut, *, series: str) -> float:
    """Put the halves together again around the attention in NumPy and compare the result with the whole encoder.

    Random series of one and more dates, some or all of them masked, run through OpenVINO in float32.

    Args:
        graph: the segment.
        cut: its halves.
        series: its name.

    Returns:
        The largest relative error of a level: L2 norm of the difference over the L2 norm of the level.

    Raises:
        PlanError: it is larger than MAX_RELATIVE_ERROR.
    """
    whole, spatial, temporal = (_Runner(model) for model in (graph.model, cut.spatial, cut.temporal))
    rng = np.random.default_rng(_SEED)
    shape = graph.types()["pixels"].shape[2:]
    worst = 0.0
    for real in ([[True]], [[True] * 5 + [False] * 2, [False, True] * 3 + [True]], [[True] * 3, [False] * 3]):
        mask = np.array(real, np.float32)  # [B, T]
        days = np.sort(rng.integers(-120, 240, mask.shape), axis=1).astype(np.float32)
        pixels = rng.uniform(0, 3000, (*mask.shape, *map(int, shape))).astype(np.float32)
        expected = whole({"pixels": pixels, "days": days, "mask": mask})
        *skips, features = spatial({"pixels": pixels, "mask": mask}).values()
        context, attention = attend(features, days, mask, arrays=cut.attention)
        sums = {f"sum{place}": aggregate(skip, attention) for place, skip in enumerate(skips)}
        got = temporal({"context": context, **sums})
        errors = [relative_error(np.moveaxis(got[name], -1, 1), expected[name]) for name in expected]
        worst = max(worst, *errors)
    if not worst <= MAX_RELATIVE_ERROR:
        raise PlanError(
            f"the encoder of {series}, cut at its attention, differs from the whole by {worst:.1e}, expected at most "
            f"{MAX_RELATIVE_ERROR:.0e}; build with --no-kernels, or export the plan again"
        )
    return worst


class _Runner:
    """A graph in OpenVINO, in float32: arrays by name in, arrays by name out."""

    def __init__(self, model: onnx.ModelProto) -> None:
        # by place: OpenVINO joins names where nothing is computed between them
        self._inputs = [entry.name for entry in model.graph.input]
        self._outputs = [entry.name for entry in model.graph.output]
        try:
            read = openvino_core().read_model(io.BytesIO(model.SerializeToString()))
            self._compiled = openvino_core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            raise PlanError(f"an encoder of a series cannot be run: {last}; export the plan again") from error

    def __call__(self, arrays: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.float32]]:
        made = self._compiled([np.ascontiguousarray(arrays[name], np.float32) for name in self._inputs])
        return {name: np.array(made[place]) for place, name in enumerate(self._outputs)}
