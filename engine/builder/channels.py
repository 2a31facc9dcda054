"""Doors that lie channels last, on graphs that compute channels first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import helper

from ..errors import PlanError
from .onnx_graph import Graph, TensorType, attribute, renamed, transpose, value

__all__ = ["cancelled", "first", "give_last", "take_last"]

_TO_LAST = (0, 2, 3, 1)
_TO_FIRST = (0, 3, 1, 2)


def first(door: str) -> str:
    """Name of the tensor that holds channels first what the door of its name holds channels last."""
    return f"{door}@first"


def take_last(
    tensors: Mapping[str, str], *, types: Mapping[str, TensorType]
) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto]]:
    """Inputs [B, Y, X, C] for tensors [B, C, Y, X].

    Args:
        tensors: tensor -> name of the input.
        types: of the tensors.

    Returns:
        Nodes that make the tensors from the inputs, and the inputs.

    Raises:
        PlanError: a tensor is none of four axes.
    """
    nodes = [transpose(door, name, _TO_FIRST) for name, door in tensors.items()]
    return nodes, [value(door, _last(name, types)) for name, door in tensors.items()]


def give_last(
    nodes: Iterable[onnx.NodeProto], *, names: Sequence[str], types: Mapping[str, TensorType]
) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto]]:
    """Give tensors [B, C, Y, X] under their own names as [B, Y, X, C].

    Args:
        nodes: that make the tensors.
        names: of the tensors.
        types: of the tensors.

    Returns:
        The nodes, with `first(name)` for the tensors themselves, and the outputs.

    Raises:
        PlanError: a tensor is none of four axes.
    """
    inner = {name: first(name) for name in names}
    turned = [transpose(inner[name], name, _TO_LAST) for name in names]
    return [*(renamed(node, inner) for node in nodes), *turned], [value(name, _last(name, types)) for name in names]


def cancelled(model: onnx.ModelProto) -> Graph:
    """A graph in which no transposition undoes another: the second of two becomes an identity.

    It keeps the name of every tensor that is still computed.

    Args:
        model: which is changed.
    """
    graph = Graph(model)
    nodes = list(graph.nodes)
    for place, node in enumerate(nodes):
        before = graph.makers.get(node.input[0]) if node.op_type == "Transpose" else None
        if before is None or before.op_type != "Transpose":
            continue
        order = [attribute(before, "perm")[axis] for axis in attribute(node, "perm")]
        if order == sorted(order):
            nodes[place] = helper.make_node("Identity", [before.input[0]], list(node.output), name=node.name)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph = Graph(model)
    needed = graph.before(graph.outputs)
    if len(needed) < len(nodes):
        del model.graph.node[:]
        model.graph.node.extend(needed)
        graph = Graph(model)
    return graph


def _last(name: str, types: Mapping[str, TensorType]) -> tuple[int | str, ...]:
    shape = types[name].shape if name in types else ()
    if len(shape) != 4:
        raise PlanError(f"map {name} of a segment has the shape {list(shape)}, expected [B, C, Y, X]; export it again")
    _, channels, *sides = shape
    return ("B", *sides, channels)
