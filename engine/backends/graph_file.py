"""What the ONNX file of a segment may hold: one flat graph with its weights inside.

ONNX files can name other files that weights are read from, and hold loops; libraries follow both. Here the file is
walked before any library reads it, by its framing alone.
"""

from __future__ import annotations

from ..errors import PlanError
from .framing import fields

__all__ = ["check_graph_file"]

_DATA_LOCATION = ("tensor", 14)

# Messages by name: field -> what it is. From onnx.proto.
_REFUSED = {
    ("model", 20): "a training graph",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse weights",
    ("attribute", 6): "a graph inside a node (a loop or a branch)",
    ("attribute", 11): "graphs inside a node (a loop or a branch)",
    ("attribute", 22): "sparse weights",
    ("attribute", 23): "sparse weights",
    ("tensor", 13): "weights in another file",
    _DATA_LOCATION: "weights in another file",
}
_MESSAGES = {
    ("model", 7): "graph",
    ("graph", 1): "node",
    ("graph", 5): "tensor",
    ("node", 5): "attribute",
    ("attribute", 5): "tensor",
    ("attribute", 10): "tensor",
}


def check_graph_file(content: memoryview, *, segment: str) -> None:
    """Refuse an ONNX file that is not one flat graph with its weights inside.

    Args:
        content: the whole file.
        segment: its name, for the message.

    Raises:
        PlanError: it is no ONNX file, names another file, or nests graphs.
    """
    try:
        graphs = _walk(content, "model", 0, len(content))
    except _RefusedError as error:
        raise PlanError(f"segment {segment} holds {error}, expected one flat graph; export it again") from None
    except (IndexError, ValueError):
        raise PlanError(f"segment {segment} is not an ONNX file, or is cut short; export it again") from None
    if graphs != 1:
        raise PlanError(f"segment {segment} holds {graphs} graphs, expected one; export it again")


class _RefusedError(Exception):
    """A field that no segment may have."""


def _walk(content: memoryview, message: str, start: int, stop: int) -> int:
    """Number of messages found directly inside `message`, all of them walked."""
    found = 0
    for field, value, end in fields(content, start, stop):
        inside = (message, field) == _DATA_LOCATION and value == 0  # 0 is what a file says that has nothing to say
        if (message, field) in _REFUSED and not inside:
            raise _RefusedError(_REFUSED[message, field])
        inner = _MESSAGES.get((message, field))
        if inner is not None and end >= 0:
            found += 1
            _walk(content, inner, value, end)
    return found
