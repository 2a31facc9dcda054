"""Which nodes of a part compute in float32, whatever the type of products and maps.

- Normalisations with their scales and shifts, softmax with the sum that goes into it, norms, means and other sums over
  many elements: their sums and quotients leave the range of float16, or the precision of bfloat16.
- Residual streams: where sums of two maps follow each other, as in Swin and ConvNeXt. A stream carries what all blocks
  before have added: amplitudes differ between Swin's layers by up to 10^4 (Liu et al., "Swin Transformer V2", CVPR
  2022, section 1), and float16 ends at 65504. It costs no kernel, for conversions go into those around them, and rounds
  less: a Swin-T with random weights is 1.6e-3 off float32 in float16 instead of 1.9e-3. A single sum between
  convolutions, as in U-TAE and UPerNet, is rounded once, like any map, and stays short.
- What is named by `FloatPart.float_nodes`, and operations that this file does not know.

Between them maps are short: a node that only moves elements, or maps each to another, is in float32 where it links two
that are. So there is one conversion into an island and one out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from .onnx_graph import FLOAT, Graph, TensorType

__all__ = ["MOVES", "PRODUCTS", "float_nodes", "logits_nodes", "stem_nodes", "touched"]

PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
_RESHAPING = {"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity", "DepthToSpace", "SpaceToDepth"}
MOVES = frozenset({*_RESHAPING, "Slice", "Concat", "Split", "Pad", "Expand", "Tile", "Gather", "GatherND"})
"""Operations that move elements and compute none."""

_NORMS = frozenset({"LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization"})
_ELEMENTWISE = frozenset(
    {"Relu", "Erf", "Gelu", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "HardSigmoid", "Clip", "Neg", "Abs", "Resize"}
)
_COMBINING = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Where"})
_QUANTISATION = frozenset({"QuantizeLinear", "DequantizeLinear"})
_MEANS = 1 << 16  # weights of a matrix that is looked at; one that takes means has a row for each
_SHORT = PRODUCTS | MOVES | _ELEMENTWISE | _COMBINING | _QUANTISATION


def touched(node: onnx.NodeProto, types: Mapping[str, TensorType]) -> bool:
    """Whether a node reads or makes floating point numbers; who asks for a shape alone does neither."""
    if node.op_type in ("Shape", "Size"):
        return False
    return any(name in types and types[name].element == FLOAT for name in (*node.input, *node.output))


def stem_nodes(graph: Graph) -> frozenset[str]:
    """Names of the nodes up to and including the first normalisation; all of them where there is none."""
    norm = next((node for node in graph.nodes if node.op_type in _NORMS), None)
    if norm is None:
        return frozenset(node.name for node in graph.nodes)
    affine = _affine(graph, norm)
    end = affine[-1].output[0] if affine else norm.output[0]
    return frozenset(node.name for node in graph.before([end]))


def logits_nodes(graph: Graph, *, outputs: Iterable[str]) -> frozenset[str]:
    """Names of the nodes that make logits, back to the last product."""
    found, wanted = set(), [graph.makers.get(name) for name in outputs]
    while wanted:
        node = wanted.pop()
        if node is None or node.op_type not in PRODUCTS | _COMBINING | {"Identity"}:
            continue
        found.add(node.name)
        if node.op_type not in PRODUCTS:
            wanted += [graph.makers.get(name) for name in node.input]
    return frozenset(found)


def float_nodes(graph: Graph, *, types: Mapping[str, TensorType], forced: Iterable[str]) -> frozenset[str]:
    """Names of the nodes that compute in float32.

    Args:
        graph: a part in float32.
        types: of its tensors.
        forced: names of nodes that must.
    """
    nodes = [node for node in graph.nodes if touched(node, types)]
    found = set(forced) & {node.name for node in nodes}
    found |= {node.name for node in nodes if node.op_type not in _SHORT or _is_mean(graph, node)}
    for node in nodes:
        if node.op_type in _NORMS:
            found |= {each.name for each in _affine(graph, node)}
        if node.op_type == "Softmax":
            found |= _back(graph, node.input, lambda each: each.op_type in MOVES | _COMBINING)
    found |= _streams(graph, nodes)
    _spread(graph, nodes, types, found)
    return frozenset(found)


def _spread(graph: Graph, nodes: Iterable[onnx.NodeProto], types: Mapping[str, TensorType], found: set[str]) -> None:
    """Add what combines something with a result in float32, and what lies between two nodes in float32."""
    passing = MOVES | _ELEMENTWISE

    def makers(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        floats = (name for name in node.input if name in types and types[name].element == FLOAT)
        return [graph.makers[name] for name in floats if name in graph.makers]

    def links(node: onnx.NodeProto) -> bool:
        before = makers(node)
        behind = (reader for name in node.output for reader in graph.readers.get(name, ()))
        return (
            bool(before) and all(each.name in found for each in before) and any(each.name in found for each in behind)
        )

    grew = True
    while grew:
        grew = False
        for node in nodes:
            if node.name in found:
                continue
            if node.op_type in _COMBINING:
                joins = any(each.name in found and each.op_type not in passing for each in makers(node))
            else:
                joins = node.op_type in passing and links(node)
            if joins:
                found.add(node.name)
                grew = True


def _affine(graph: Graph, norm: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The normalisation's scale and shift, where they are nodes of their own behind a change of shape."""
    found: list[onnx.NodeProto] = []
    name = norm.output[0]
    for kind in ("Reshape", "Mul", "Add"):
        readers = graph.readers.get(name, ())
        if len(readers) != 1 or readers[0].op_type != kind:
            return [] if len(found) < 2 else found
        node = readers[0]
        if kind != "Reshape" and not any(each in graph.constants for each in node.input):
            return [] if len(found) < 2 else found
        found.append(node)
        name = node.output[0]
    return found


def _is_mean(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a product takes weighted means: the weights of each are stored, not negative, and one in sum."""
    if node.op_type != "MatMul":
        return False
    for place, axis in ((0, -1), (1, -2)):
        stored = graph.constants.get(node.input[place])
        if stored is None or stored.data_type != FLOAT or len(stored.dims) != 2 or np.prod(stored.dims) > _MEANS:
            continue
        weights = numpy_helper.to_array(stored)
        return bool((weights >= 0).all() and np.allclose(weights.sum(axis), 1, atol=1e-5))
    return False


def _streams(graph: Graph, nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Sums of two computed maps, one of which is such a sum itself, and the sums that they take."""
    sums = {
        node.output[0]: node.name
        for node in nodes
        if node.op_type == "Add" and not any(name in graph.constants for name in node.input)
    }
    found = set()
    for output, name in sums.items():
        moved = _back(graph, graph.makers[output].input, lambda each: each.op_type in MOVES)
        read = [*graph.makers[output].input]
        read += [each for node in graph.nodes if node.name in moved for each in node.input]
        before = {sums[each] for each in read if each in sums}
        if before:
            found |= before | {name}
    return found


def _back(graph: Graph, names: Iterable[str], follow: Callable[[onnx.NodeProto], bool]) -> set[str]:
    """Names of the nodes that make `names`, and so on, as far as `follow` says yes."""
    found: set[str] = set()
    wanted = [graph.makers[name] for name in names if name in graph.makers]
    while wanted:
        node = wanted.pop()
        if node.name in found or not follow(node):
            continue
        found.add(node.name)
        wanted += [graph.makers[name] for name in node.input if name in graph.makers]
    return found
