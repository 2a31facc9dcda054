"""Nodes of OpenVINO graphs: who made what, who reads it, and what is known before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset14 as ops
from openvino import passes

__all__ = ["fold_constants", "kind_of", "known", "made_by", "only_reader", "read_instead"]


def kind_of(node: ov.Node) -> str:
    """The operation that a node is: "MatMul"."""
    return str(node.get_type_name())


def made_by(node: ov.Node, place: int) -> str:
    """Kind of the node that makes an input."""
    return kind_of(node.input_value(place).get_node())


def only_reader(node: ov.Node, *, kind: str) -> ov.Node | None:
    """The node that alone reads what another gives, if it is of a kind; else None."""
    readers = [port.get_node() for port in node.output(0).get_target_inputs()]
    return readers[0] if [kind_of(reader) for reader in readers] == [kind] else None


def read_instead(node: ov.Node, other: ov.Node) -> None:
    """Let all who read a node's only output read another's."""
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(other.output(0))


def fold_constants(model: ov.Model) -> None:
    """Evaluate what depends on constants and fixed shapes alone."""
    folding = passes.Manager()
    folding.register_pass(passes.ConstantFolding())
    folding.run_passes(model)


def known(output: ov.Output, model: ov.Model) -> NDArray[Any] | None:
    """What an output in `model` holds, where that depends on constants and fixed shapes alone; else None.

    The model stays as it is: to fold all of it would undo weights that are stored in 8 bits.
    """
    node = output.get_node()
    if kind_of(node) != "Constant":
        if _waits(node):
            return None
        alone = ov.Model([ops.result(output)], model.get_parameters(), "known").clone()
        fold_constants(alone)
        node = alone.get_results()[0].input_value(0).get_node()
    return np.array(node.data) if kind_of(node) == "Constant" else None


def _waits(last: ov.Node) -> bool:
    """Whether a node depends on what the graph is given, and not on the shape of it alone."""
    seen: set[str] = set()
    left = [last]
    while left:
        node = left.pop()
        kind = kind_of(node)
        if kind == "Parameter":
            return True
        shape_alone = kind == "ShapeOf" and node.get_input_partial_shape(0).is_static
        if node.get_name() not in seen and not shape_alone:
            left += [node.input_value(place).get_node() for place in range(node.get_input_size())]
        seen.add(node.get_name())
    return False
