"""Writing 8-bit products into a graph, as pairs of QuantizeLinear and DequantizeLinear, or as what they compute.

TensorRT multiplies in 8 bits where both inputs of a product come straight from a DequantizeLinear ("explicit
quantisation"): the map through a QuantizeLinear in front of it with one scale, the weights stored in 8 bits with one
scale per result; zero points are zero. Only inputs of products are quantised, never their results: TensorRT moves the
pairs across what merely carries them, and results go on in floating point (TensorRT documentation, "Working with
Quantized Types"). Of FP8 it takes one scale for all weights of a layer. NNCF and ONNX Runtime write other forms
(unsigned, with zero points) that TensorRT refuses, hence our own writing.

The imitation holds the same roundings as ordinary arithmetic in float32: any library computes it alike, and no compiler
mistakes it for something to run in 8 bits.

Processors are given unsigned maps, which OpenVINO needs: of int8 maps that were concatenated, version 2026.4 gives
products that are off by 20 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import BackendError, PlanError
from .eight_bits import TOP, Kind, Range, Steps, codes, rounded, scale_of, steps_of
from .layers import Layer, products

__all__ = ["Arithmetic", "Pairs", "imitate", "quantise"]

_OPSET = 19
"""From here on a scale may be float16 or bfloat16 and a quantised tensor FP8; it changes nothing that segments use."""

_WEIGHTS = {"int8": TensorProto.INT8, "uint8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
_MAPS = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "fp8": TensorProto.FLOAT8E4M3FN}
_SMALLEST_NORMAL, _FINEST = 2.0**-6, 2.0**-9  # of E4M3
_TO_FOUR_BITS = 2.0**20 + 1


def quantise(
    model: onnx.ModelProto, *, ranges: Mapping[str, Range], layers: Collection[str], kind: Kind
) -> onnx.ModelProto:
    """The graph with products in 8 bits.

    Args:
        model: a segment, or a part cut from one, with weights in float32.
        ranges: layer -> values of its map that have to be told apart.
        layers: names of the products to quantise, all of them in the graph.
        kind: "int8" or "fp8" for TensorRT, "uint8" for processors.

    Returns:
        A new model; `model` stays as it is.

    Raises:
        PlanError: weights or a range that are not finite.
        BackendError: a layer that the graph does not have.
    """
    return _rewritten(model, ranges, layers, Pairs(onnx.GraphProto(), kind=kind))


def imitate(
    model: onnx.ModelProto, *, ranges: Mapping[str, Range], layers: Collection[str], kind: Kind
) -> onnx.ModelProto:
    """The graph with products of rounded numbers in float32: what `quantise` gives, up to the order of sums.

    Arguments and errors are those of `quantise`.
    """
    return _rewritten(model, ranges, layers, Arithmetic(onnx.GraphProto(), kind=kind))


class Pairs:
    """Puts QuantizeLinear and DequantizeLinear into a graph, once for each tensor and scale.

    Args:
        graph: where nodes and constants go, in the order of the calls.
        kind: of numbers.
    """

    def __init__(self, graph: onnx.GraphProto, *, kind: Kind) -> None:
        self.graph = graph
        self.kind: Kind = kind
        self._made: dict[tuple[str, Range | int, bool], str] = {}
        self._times: Counter[str] = Counter()

    def map(self, layer: Layer, *, values: Range) -> str:
        """Round the map that a layer multiplies; the name of what comes out.

        Convolutions and matrix products share none, for they may be typed differently; see `quantise_part`.
        """
        tensor = layer.map
        key = (tensor, values, layer.kind == "Conv")
        if key not in self._made:
            self._times[tensor] += 1
            number = self._times[tensor]
            steps = steps_of(values, kind=self.kind)
            self._made[key] = self._round(tensor, steps, tensor if number == 1 else f"{tensor}.{number}")
        return self._made[key]

    def weight(self, tensor: TensorProto, *, layer: Layer) -> str:
        """Store weights in 8 bits; the name of what a product takes."""
        key = (tensor.name, layer.axis, layer.kind == "Conv")
        if key not in self._made:
            weights = numpy_helper.to_array(tensor).astype(np.float32)
            if not np.isfinite(weights).all():
                raise PlanError(f"weights {tensor.name} are not all finite; export the plan again")
            others = tuple(axis for axis in range(weights.ndim) if axis != layer.axis)
            amplitude = np.abs(weights).max(axis=None if self.kind == "fp8" else others, keepdims=True)
            self._made[key] = self._store(tensor.name, weights, scale_of(amplitude, top=TOP[self.kind]), layer.axis)
        return self._made[key]

    def _round(self, tensor: str, steps: Steps, name: str) -> str:
        scale = self._constant(f"{name}.scale", np.float32(steps.scale))
        zero = self._stored(f"{name}.zero", np.array(steps.zero, np.uint8), _MAPS[self.kind])
        whole = self._node("QuantizeLinear", [tensor, scale, zero], f"{name}.quantised")
        return self._node("DequantizeLinear", [whole, scale, zero], f"{name}.rounded")

    def _store(self, name: str, weights: np.ndarray, scale: np.ndarray, axis: int) -> str:
        content = codes(weights, scale=scale, kind=self.kind)
        stored = self._stored(f"{name}.quantised", content, _WEIGHTS[self.kind])
        each = self._constant(f"{name}.scale", scale.reshape(() if scale.size == 1 and self.kind == "fp8" else -1))
        output = self._node("DequantizeLinear", [stored, each], f"{name}.rounded")
        if self.kind != "fp8":
            self.graph.node[-1].attribute.append(helper.make_attribute("axis", axis))
        return output

    def _stored(self, name: str, content: np.ndarray, dtype: int) -> str:
        tensor = TensorProto(name=name, data_type=dtype, dims=content.shape, raw_data=content.tobytes())
        self.graph.initializer.append(tensor)
        return name

    def _constant(self, name: str, content: np.ndarray) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(content, np.float32), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str) -> str:
        self.graph.node.append(helper.make_node(kind, inputs, [output], name=f"{output}.{kind}"))
        return output


class Arithmetic(Pairs):
    """Puts divisions, roundings and products into a graph instead, all in float32."""

    def _round(self, tensor: str, steps: Steps, name: str) -> str:
        scale = self._constant(f"{name}.scale", np.float32(steps.scale))
        low = self._constant(f"{name}.low", np.float32(steps.low))
        high = self._constant(f"{name}.high", np.float32(steps.high))
        held = self._node("Clip", [self._node("Div", [tensor, scale], f"{name}.steps"), low, high], f"{name}.held")
        whole = self._e4m3(held, name) if self.kind == "fp8" else self._node("Round", [held], f"{name}.whole")
        return self._node("Mul", [whole, scale], f"{name}.rounded")

    def _e4m3(self, tensor: str, name: str) -> str:
        """Keep four bits of a number, or whole multiples of 2^-9 where it is smaller than 2^-6.

        x k - (x k - x) with k = 2^20 + 1 leaves the 4 uppermost of float32's 24 bits, rounded to nearest even (Dekker's
        splitting). OpenVINO's own conversion to E4M3 rounds twice and was off by a step at 0.3 % of random numbers.
        """
        factor = self._constant(f"{name}.factor", np.float32(_TO_FOUR_BITS))
        finest = self._constant(f"{name}.finest", np.float32(_FINEST))
        bound = self._constant(f"{name}.bound", np.float32(_SMALLEST_NORMAL))
        large = self._node("Mul", [tensor, factor], f"{name}.large")
        rest = self._node("Sub", [large, tensor], f"{name}.rest")
        normal = self._node("Sub", [large, rest], f"{name}.normal")
        counts = self._node("Round", [self._node("Div", [tensor, finest], f"{name}.parts")], f"{name}.counts")
        small = self._node("Mul", [counts, finest], f"{name}.small")
        is_small = self._node("Less", [self._node("Abs", [tensor], f"{name}.size"), bound], f"{name}.is_small")
        return self._node("Where", [is_small, small, normal], f"{name}.whole")

    def _store(self, name: str, weights: np.ndarray, scale: np.ndarray, axis: int) -> str:  # noqa: ARG002  others need it
        return self._constant(f"{name}.rounded", rounded(weights, scale=scale, kind=self.kind))


def _rewritten(
    model: onnx.ModelProto, ranges: Mapping[str, Range], names: Collection[str], writer: Pairs
) -> onnx.ModelProto:
    graph, made = model.graph, writer.graph
    chosen = _chosen(graph, ranges, names)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    made.name = graph.name
    made.input.extend(graph.input)
    made.output.extend(graph.output)
    made.value_info.extend(graph.value_info)
    for node in graph.node:
        layer = chosen.get(node.name)
        inputs = list(node.input)
        if layer is not None:
            inputs[0] = writer.map(layer, values=ranges[layer.name])
            inputs[1] = writer.weight(stored[layer.weight], layer=layer)
        copy = made.node.add()
        copy.CopyFrom(node)
        copy.input[:] = inputs
    used = {name for node in made.node for name in node.input} | {output.name for output in graph.output}
    made.initializer.extend(tensor for tensor in graph.initializer if tensor.name in used)
    result = onnx.ModelProto(ir_version=max(model.ir_version, 9), producer_name=model.producer_name)
    result.graph.CopyFrom(made)
    for opset in model.opset_import:
        result.opset_import.add(domain=opset.domain, version=max(opset.version, 0 if opset.domain else _OPSET))
    return result


def _chosen(graph: onnx.GraphProto, ranges: Mapping[str, Range], names: Collection[str]) -> dict[str, Layer]:
    found = products(graph)
    missing = sorted(set(names) - set(found))
    if missing:
        raise BackendError(f"{missing[0]} is no product with stored weights of {graph.name}; quantise the plan anew")
    for name in names:
        if not np.isfinite(ranges[name].amplitude):
            raise PlanError(f"{name} takes {ranges[name]}, expected finite values; export the plan again")
    return {name: found[name] for name in names}
