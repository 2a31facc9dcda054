"""Which layers of a segment can compute in 8 bits: products of a map with stored weights, where that pays and is safe.

Left in floating point are

- the first convolution of what arrives in float32 (series, elevation): raw numbers up to 10,000 or heights of 1500 m
  do not fit 256 steps;
- the product that gives the logits: nothing behind it evens its error out;
- scores in front of a softmax, and products of two maps (queries by keys, weights by values);
- products with fewer than 16 terms or results, such as resizes written as products: they cost nothing;
- convolutions in groups: on GPUs tensor cores do not serve them, and TensorRT found no 8-bit code for some
  (NVIDIA/TensorRT #4060); on a processor they were no faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

__all__ = ["Layer", "products", "quantisable"]

_FEWEST = 16
_CARRYING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Where", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Relu", "Cast"}
)
"""Operations that hand a product on without mixing it with another."""


@dataclass(frozen=True)
class Layer:
    """One product of a map with stored weights.

    Attributes:
        name: of its node, in the segment and in every part cut from it.
        kind: operation of ONNX: `Conv`, `MatMul` or `Gemm`.
        map: tensor that is multiplied.
        weight: stored tensor that multiplies it.
        axis: of the weights, along which results lie.
        groups: of a convolution.
        results: channels that come out.
        terms: products that are added for one of them.
    """

    name: str
    kind: str
    map: str
    weight: str
    axis: int
    groups: int
    results: int
    terms: int


def products(graph: onnx.GraphProto) -> dict[str, Layer]:
    """Every product of a map with a stored weight, by the name of its node."""
    stored = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = (_product(node, stored) for node in graph.node)
    return {layer.name: layer for layer in found if layer is not None}


def quantisable(graph: onnx.GraphProto, *, float_stem: bool, gives_logits: bool) -> tuple[Layer, ...]:
    """Layers of a segment that may compute in 8 bits, in the graph's order.

    Args:
        graph: the whole segment.
        float_stem: whether its first convolution takes numbers in float32.
        gives_logits: whether its outputs are logits of classes.
    """
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]  # nodes of a graph are sorted
    kept = set(convolutions[:1]) if float_stem else set()
    for output in graph.output if gives_logits else ():
        kept |= set(_sources(graph, output.name))
    for node in graph.node:
        if node.op_type == "Softmax":
            kept |= set(_sources(graph, node.input[0]))
    return tuple(
        layer
        for layer in products(graph).values()
        if layer.name not in kept and layer.groups == 1 and min(layer.results, layer.terms) >= _FEWEST
    )


def _product(node: onnx.NodeProto, stored: dict[str, tuple[int, ...]]) -> Layer | None:
    if node.op_type not in ("Conv", "MatMul", "Gemm") or not node.name:
        return None
    map_, weight = node.input[0], node.input[1]
    shape = stored.get(weight, ())
    if map_ in stored or (len(shape) != 2 and node.op_type != "Conv") or not shape:
        return None
    said = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Conv":
        return Layer(node.name, "Conv", map_, weight, 0, said.get("group", 1), shape[0], math.prod(shape[1:]))
    if said.get("transA", 0) or said.get("alpha", 1.0) != 1.0 or said.get("beta", 1.0) != 1.0:
        return None
    axis = 0 if said.get("transB", 0) else 1
    return Layer(node.name, node.op_type, map_, weight, axis, 1, shape[axis], shape[1 - axis])


def _sources(graph: onnx.GraphProto, tensor: str) -> Iterator[str]:
    """Nodes from which a tensor comes without another product in between, through what only carries."""
    makers = {output: node for node in graph.node for output in node.output}
    waiting, seen = [tensor], set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type in _CARRYING:
            waiting += node.input
        else:
            yield node.name
