"""Products of one map with several stored matrices, written as one product.

Queries, keys and values of windows are three products of the same tokens in a plan's graph, each gathered into windows
by itself. TensorRT joins them on its own, and then no longer sees what is asked of their sums: TensorRT-RTX 1.7
multiplied them in float32 where float16 with sums in float32 was written (`typed.py`). Joined before types are written,
they are one product as any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .onnx_graph import Graph, assemble

__all__ = ["join_products"]

_NONE = onnx.TensorProto()


@dataclass(frozen=True)
class _Product:
    """A product with a stored matrix [in, out], and the sum behind it with a stored vector [out]."""

    product: onnx.NodeProto
    total: onnx.NodeProto
    bias: str


def join_products(model: onnx.ModelProto, *, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Join products that read the same map, each with a bias behind it.

    What the sums make keeps its names; the products are one node, called like the first with "joined:" before.

    Args:
        model: which is not changed.
        keep: names of nodes that stay as they are.

    Returns:
        The model itself where there is nothing to join.
    """
    graph = Graph(model)
    groups = [group for name in graph.readers if len(group := list(_products_of(graph, name, keep))) > 1]
    if not groups:
        return model
    first = {group[0].product.name: group for group in groups}
    gone = {node.name for group in groups for each in group for node in (each.product, each.total)}
    nodes: list[onnx.NodeProto] = []
    stored = list(graph.constants.values())
    for node in graph.nodes:
        if node.name in first:
            made, tensors = _joined(graph, first[node.name])
            nodes += made
            stored += tensors
        elif node.name not in gone:
            nodes.append(node)
    return assemble(model, nodes, inputs=model.graph.input, outputs=model.graph.output, stored=stored)


def _products_of(graph: Graph, name: str, keep: Collection[str]) -> Iterator[_Product]:
    """Products of a map that can be joined."""
    for node in graph.readers[name]:
        readers = graph.readers.get(node.output[0], ())
        if node.op_type != "MatMul" or node.input[0] != name or [reader.op_type for reader in readers] != ["Add"]:
            continue
        total = readers[0]
        bias = next((other for other in total.input if other != node.output[0]), "")
        weight = graph.constants.get(node.input[1], _NONE)
        fits = len(weight.dims) == 2 and list(graph.constants.get(bias, _NONE).dims) == [weight.dims[1]]
        if fits and node.output[0] not in graph.outputs and not {node.name, total.name} & set(keep):
            yield _Product(node, total, bias)


def _joined(graph: Graph, group: Sequence[_Product]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Product, sum and split in place of several products, and what they store."""
    product, total = group[0].product, group[0].total
    weights = [np.asarray(graph.array(each.product.input[1])) for each in group]
    biases = [np.asarray(graph.array(each.bias)) for each in group]
    name, summed = f"joined:{product.name}", f"joined:{total.name}"
    tensors = [
        numpy_helper.from_array(np.concatenate(weights, axis=1), f"{name}.weight"),
        numpy_helper.from_array(np.concatenate(biases), f"{name}.bias"),
        numpy_helper.from_array(np.array([len(bias) for bias in biases], np.int64), f"{name}.split"),
    ]
    nodes = [
        helper.make_node("MatMul", [product.input[0], tensors[0].name], [name], name=name),
        helper.make_node("Add", [name, tensors[1].name], [summed], name=summed),
        helper.make_node(
            "Split",
            [summed, tensors[2].name],
            [each.total.output[0] for each in group],
            name=f"split:{product.name}",
            axis=-1,
        ),
    ]
    return nodes, tensors
