"""Transposed convolutions written as convolutions, which they are where their stride is one.

TensorRT has more kernels for convolutions; TensorRT-RTX 1.7 has none in bfloat16 for transposed ones.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .onnx_graph import Graph, attribute

__all__ = ["as_convolutions"]


def as_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write transposed convolutions of stride one as convolutions.

    Nodes and tensors keep their names, weights too: [C, K, Y, X] become [K, C, Y, X] with rows and columns reversed.

    Args:
        model: which is changed.

    Returns:
        The model.
    """
    graph = Graph(model)
    found = {node.name: node.input[1] for node in graph.nodes if _is_convolution(graph, node)}
    if found:
        nodes = [_convolution(graph, node) if node.name in found else node for node in graph.nodes]
        stored = [_turned(tensor) if name in found.values() else tensor for name, tensor in graph.constants.items()]
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(stored)
    return model


def _is_convolution(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node is a transposed convolution of stride one that is cut by no more than it reaches."""
    if node.op_type != "ConvTranspose" or len(graph.readers[node.input[1]]) != 1:
        return False
    if set(attribute(node, "strides") or [1]) != {1} or set(attribute(node, "output_padding") or [0]) != {0}:
        return False
    plain = attribute(node, "group") in (None, 1) and attribute(node, "auto_pad") in (None, b"NOTSET")
    if not plain or attribute(node, "output_shape") is not None or node.input[1] not in graph.constants:
        return False
    return min(_pads(graph, node)) >= 0


def _pads(graph: Graph, node: onnx.NodeProto) -> list[int]:
    """Padding of the convolution that a transposed one is."""
    sides = graph.constants[node.input[1]].dims[2:]
    rates = attribute(node, "dilations") or [1] * len(sides)
    reach = [rate * (side - 1) for rate, side in zip(rates, sides, strict=True)]
    cut = attribute(node, "pads") or [0] * (2 * len(sides))
    return [far - pad for far, pad in zip([*reach, *reach], cut, strict=True)]


def _convolution(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto:
    sides = list(graph.constants[node.input[1]].dims[2:])
    return helper.make_node(
        "Conv",
        list(node.input),
        list(node.output),
        name=node.name,
        kernel_shape=sides,
        dilations=attribute(node, "dilations") or [1] * len(sides),
        pads=_pads(graph, node),
    )


def _turned(tensor: onnx.TensorProto) -> onnx.TensorProto:
    weights = numpy_helper.to_array(tensor)
    turned = np.flip(weights.swapaxes(0, 1), axis=tuple(range(2, weights.ndim)))
    return numpy_helper.from_array(np.ascontiguousarray(turned), tensor.name)
