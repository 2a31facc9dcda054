"""What arrives at the products of a plan on the user's tiles, and what rounding it to 8 bits does to each of them.

Segments are run whole, in float32, on what they meet inside the plan: a decoder on real fused pyramids, a series'
encoder on its padded dates. Maps are looked at while they pass, and only counts are kept.

NNCF, which does the same for processors, is not used for TensorRT: it writes unsigned maps and zero points, which
TensorRT refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ..backends.segment_graph import segment_graph
from ..plan.manifest import Manifest
from ..plan.plan import Plan
from ..tiles import Tile
from .eight_bits import Kind, Range
from .histogram import Histogram
from .layers import Layer, quantisable
from .pipeline import Graph, Pipeline
from .quantise import Arithmetic

__all__ = ["LayerKey", "Ranges", "candidates", "local_errors", "ranges_of", "read_model"]

LayerKey = tuple[str, str]
"""Name of a segment and of one of its layers."""

Ranges = Mapping[str, Mapping[str, Range]]
"""Segment -> layer -> values of the map that it multiplies."""


def candidates(plan: Plan, *, kind: Kind) -> dict[str, tuple[Layer, ...]]:
    """Layers of each segment that may compute in 8 bits; segments without any are left out.

    FP8 is for matrix products alone: that is all TensorRT-RTX has it for (documentation, "Working with Quantized
    Types"), and TensorRT has it for some convolutions only (release notes). On processors series stay in float32, as
    they do without quantisation.
    """
    manifest = plan.manifest
    found = {}
    for segment in manifest.segments:
        series = segment.role == "encoder" and manifest.modality(segment.subject).kind == "series"
        if segment.role == "absent" or (series and kind == "uint8"):
            continue
        layers = quantisable(
            read_model(plan, segment.name).graph,
            float_stem=_float_stem(manifest, segment.name),
            gives_logits=segment.role == "decode" or manifest.fusion == "mean",
        )
        found[segment.name] = tuple(layer for layer in layers if kind != "fp8" or layer.kind != "Conv")
    return {name: layers for name, layers in found.items() if layers}


def read_model(plan: Plan, name: str) -> onnx.ModelProto:
    """The graph of segment `name`.

    Raises:
        PlanError: it is not one flat graph with its weights inside.
    """
    return onnx.load_from_string(bytes(segment_graph(plan, name)))


def ranges_of(
    plan: Plan, pipeline: Pipeline, *, layers: Mapping[str, Sequence[Layer]], tiles: Iterable[Tile]
) -> dict[str, dict[str, Range]]:
    """Ranges of the maps that layers multiply, from tiles.

    Args:
        plan: an open plan.
        pipeline: of the plan.
        layers: segment -> layers.
        tiles: checked tiles.

    Returns:
        Segment -> layer -> range. Layers to which nothing but zeros came are left out, and segments that no tile
        reached.

    Raises:
        PlanError: a map with values that are not finite.
    """
    probes = {name: _Probe(read_model(plan, name), each, pipeline.threads) for name, each in layers.items()}
    for tile in tiles:
        pipeline.map(tile, probes)
    found = {
        name: {layer.name: probes[name].histograms[layer.map].range() for layer in each}
        for name, each in layers.items()
    }
    seen = {name: {layer: r for layer, r in each.items() if r.amplitude > 0} for name, each in found.items()}
    return {name: each for name, each in seen.items() if each}


def local_errors(
    plan: Plan,
    pipeline: Pipeline,
    *,
    layers: Mapping[str, Sequence[Layer]],
    ranges: Ranges,
    tiles: Iterable[Tile],
    kind: Kind,
) -> dict[LayerKey, float]:
    """How far off each layer with a range is when it alone computes in 8 bits.

    One pass over the tiles in float32, in which every layer has a twin that multiplies the same map and weights in 8
    bits: the L2 norm of the difference of their results over the L2 norm of the result, biases included.
    """
    twins = {}
    for name, each in ranges.items():
        chosen = [layer for layer in layers[name] if layer.name in each]
        twins[name] = _Twins(read_model(plan, name), chosen, each, kind, pipeline.threads)
    for tile in tiles:
        pipeline.map(tile, twins)
    return {(name, layer): error for name, each in twins.items() for layer, error in each.errors()}


class _Probe:
    """A segment that counts the maps that its layers multiply."""

    def __init__(self, model: onnx.ModelProto, layers: Sequence[Layer], threads: int) -> None:
        maps = dict.fromkeys(layer.map for layer in layers)
        self.histograms = {name: Histogram(name) for name in maps}
        self._outputs = len(model.graph.output)
        for name in maps:  # an input cannot be an output, a copy of it can
            model.graph.node.append(helper.make_node("Identity", [name], [f"{name}.probe"], name=f"{name}.probe"))
            model.graph.output.append(helper.make_tensor_value_info(f"{name}.probe", TensorProto.FLOAT, None))
        self._graph = Graph(model, threads=threads)

    def __call__(self, *inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        outputs = self._graph(*inputs)
        for histogram, values in zip(self.histograms.values(), outputs[self._outputs :], strict=True):
            histogram.add(values)
        return outputs[: self._outputs]


@dataclass
class _Sums:
    difference: float = 0.0
    result: float = 0.0


class _Twins:
    """A segment in which every layer has a twin in 8 bits, and the squares of their results are summed."""

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Sequence[Layer],
        ranges: Mapping[str, Range],
        kind: Kind,
        threads: int,
    ) -> None:
        self._sums = {layer.name: _Sums() for layer in layers}
        self._outputs = len(model.graph.output)
        graph = model.graph
        nodes = {node.name: node for node in graph.node}
        stored = {tensor.name: tensor for tensor in graph.initializer}
        writer = Arithmetic(graph, kind=kind)
        for layer in layers:
            node = onnx.NodeProto()
            node.CopyFrom(nodes[layer.name])
            node.input[0] = writer.map(layer, values=ranges[layer.name])
            node.input[1] = writer.weight(stored[layer.weight], layer=layer)
            node.name, node.output[0] = f"{layer.name}.twin", f"{layer.name}.twin"
            graph.node.append(node)
            result = nodes[layer.name].output[0]
            graph.node.append(helper.make_node("Sub", [node.output[0], result], [f"{layer.name}.difference"]))
            for part, tensor in (("difference", f"{layer.name}.difference"), ("result", result)):
                name = f"{layer.name}.{part}.squares"
                graph.node.append(helper.make_node("ReduceSumSquare", [tensor], [name], keepdims=0))
                graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
        self._graph = Graph(model, threads=threads)

    def __call__(self, *inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        outputs = self._graph(*inputs)
        squares = iter(outputs[self._outputs :])
        for sums in self._sums.values():
            sums.difference += float(next(squares))
            sums.result += float(next(squares))
        return outputs[: self._outputs]

    def errors(self) -> Iterator[tuple[str, float]]:
        """Relative error of each layer; 0 where nothing came."""
        for name, sums in self._sums.items():
            yield name, float(np.sqrt(sums.difference / sums.result)) if sums.result > 0 else 0.0


def _float_stem(manifest: Manifest, segment: str) -> bool:
    role, subject = segment.split(":", 1)
    if role != "encoder":
        return False
    modality = manifest.modality(subject)
    return modality.kind == "series" or modality.dtype == "float32"
