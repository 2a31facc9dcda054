"""Graphs that have weights in common: a plan stores each once, in the graph of its own side or of a lender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx
from onnx import TensorProto, numpy_helper

from .graph import Graph, count_weights

__all__ = ["sharing_weights"]

_LEAST_BYTES = 256
"""Smaller tensors stay in every graph."""
_Content = tuple[int, tuple[int, ...], bytes]


def sharing_weights(graph: Graph, *lenders: Graph) -> Graph:
    """A graph without the tensors that others hold, too; it counts the weights that it holds itself.

    What is left out is read under its name in the first of the lenders that has one of that name; see
    `uperfuse.engine.backends.segment_graph`.

    Args:
        graph: complete.
        lenders: as the plan stores them: of the same segment for the plan's own side, or of an encoder that is shared.
    """
    model = onnx.load_from_string(graph.data)
    lent = _lent(lenders)
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
    return replace(graph, data=model.SerializeToString(deterministic=True), parameters=count_weights(model))


def _lent(lenders: Sequence[Graph]) -> dict[_Content, str]:
    """Content of every tensor that is worth lending -> its name, which means no tensor of an earlier lender."""
    lent: dict[_Content, str] = {}
    taken: set[str] = set()
    for lender in lenders:
        tensors = onnx.load_from_string(lender.data).graph.initializer
        large = (each for each in tensors if _size(each) >= _LEAST_BYTES and each.name not in taken)
        lent = {_content(tensor): tensor.name for tensor in large} | lent
        taken |= {tensor.name for tensor in tensors}
    return lent


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
