"""The ONNX graph of a segment as it is run: checked, and with the weights in it that it shares with another.

A plan stores a weight once: for tiles of several sides in the graph of its own side, for sensors that share an encoder
in the graph of the one that lends it. The other graphs lack it: what their nodes read and nothing in them gives has the
name of a weight there.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import PlanError
from ..plan.plan import Plan
from .framing import fields, frame
from .graph_file import check_graph_file

__all__ = ["segment_graph"]

# Fields by number, from onnx.proto.
_GRAPH_OF_MODEL = 7
_NODE, _INITIALISER, _INPUT = 1, 5, 11
_NODE_INPUT, _NODE_OUTPUT = 1, 2
_TENSOR_NAME, _VALUE_NAME = 8, 1


def segment_graph(plan: Plan, name: str, *, member: str | None = None) -> bytes | memoryview:
    """The ONNX file of a segment, complete.

    Args:
        plan: an open plan.
        name: of the segment.
        member: that holds it; None: the one that the manifest says.

    Raises:
        PlanError: a file is not one flat graph; or a weight is neither in it nor in those that it shares with.
    """
    content = plan.member(member or plan.manifest.segment(name).member)
    check_graph_file(content, segment=name)
    lenders = plan.lenders(name) if member is None else ()
    wanted = _missing(content) if lenders else set()
    if not wanted:
        return content
    tensors: list[bytes | memoryview] = []
    for lender in lenders:
        weights = plan.member(lender)
        check_graph_file(weights, segment=name)
        found = [(tensor, weight) for tensor, weight in _tensors(weights) if tensor in wanted]
        tensors += [piece for _, weight in found for piece in frame(_INITIALISER, weight)]
        wanted -= {tensor for tensor, _ in found}
    if wanted:
        raise PlanError(
            f"segment {name} for tiles of {plan.manifest.base_px} px reads {min(wanted)!a}, which neither its graph "
            f"nor {' nor '.join(lenders)} gives; export the plan again"
        )
    # a message that a file holds twice is one to protobuf, its lists behind one another
    return b"".join((content, *frame(_GRAPH_OF_MODEL, *tensors)))


def _missing(model: memoryview) -> set[str]:
    """Names that nodes of a model read and nothing in it gives."""
    read: set[str] = set()
    given = {""}  # the name of an input that a node does without
    for field, start, stop in fields(model, *_graph(model)):
        if field == _NODE:
            for inner, first, last in fields(model, start, stop):
                if inner in (_NODE_INPUT, _NODE_OUTPUT):
                    (read if inner == _NODE_INPUT else given).add(_text(model, first, last))
        elif field in (_INITIALISER, _INPUT):
            given.add(_name(model, start, stop, field=_TENSOR_NAME if field == _INITIALISER else _VALUE_NAME))
    return read - given


def _tensors(model: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Stored tensors of a model: name, and the bytes of the message."""
    for field, start, stop in fields(model, *_graph(model)):
        if field == _INITIALISER:
            yield _name(model, start, stop, field=_TENSOR_NAME), model[start:stop]


def _graph(model: memoryview) -> tuple[int, int]:
    """First and last place of a model's one graph."""
    return next((start, stop) for field, start, stop in fields(model, 0, len(model)) if field == _GRAPH_OF_MODEL)


def _name(model: memoryview, start: int, stop: int, *, field: int) -> str:
    return next((_text(model, first, last) for inner, first, last in fields(model, start, stop) if inner == field), "")


def _text(model: memoryview, start: int, stop: int) -> str:
    return bytes(model[start:stop]).decode(errors="replace")
