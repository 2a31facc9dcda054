"""Graphs of one network for tiles of several sides: the weights are stored once, in the graph of its own side."""

from __future__ import annotations

from dataclasses import replace

import onnx
from onnx import TensorProto, numpy_helper

from .graph import Graph

__all__ = ["sharing_weights"]

_LEAST_BYTES = 256
_Content = tuple[int, tuple[int, ...], bytes]


def sharing_weights(graph: Graph, own: Graph) -> Graph:
    """A graph without the tensors that the plan's own graph of the segment holds, too.

    What is left out is read under its name in `own`; see `uperfuse.engine.backends.segment_graph`.

    Args:
        graph: for tiles of another side.
        own: of the same segment, for the plan's own side.
    """
    if graph.data == own.data:
        return own
    model, lender = onnx.load_from_string(graph.data), onnx.load_from_string(own.data)
    lent = {_content(tensor): tensor.name for tensor in lender.graph.initializer if _size(tensor) >= _LEAST_BYTES}
    kept, names = [], {}
    for tensor in model.graph.initializer:
        name = lent.get(_content(tensor))
        if name is None:
            kept.append(tensor)
        else:
            names[tensor.name] = name
    # a name of the lender's may stand for something else here
    others = _names(model) - set(names)
    for name in sorted(others & set(names.values())):
        names[name] = _free(name, taken=others | set(names.values()))
        others.add(names[name])
    for tensor in kept:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return replace(graph, data=model.SerializeToString(deterministic=True))


def _names(model: onnx.ModelProto) -> set[str]:
    named = {name for node in model.graph.node for name in (*node.input, *node.output)}
    return named | {tensor.name for tensor in model.graph.initializer}


def _free(name: str, *, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _content(tensor: TensorProto) -> _Content:
    return tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()


def _size(tensor: TensorProto) -> int:
    return int(numpy_helper.to_array(tensor).nbytes)
