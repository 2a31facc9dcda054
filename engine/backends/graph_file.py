"""What the ONNX file of a segment may hold: one flat graph with its weights inside.

ONNX files can name other files that weights are read from, and hold loops; libraries follow both. Here the file is
walked before any library reads it, by its framing alone: a protobuf message is a sequence of numbered fields, each a
number or a stretch of bytes that may be a message again.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import PlanError

__all__ = ["check_graph_file"]

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_MAX_VARINT_BITS = 63
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
    for field, value, end in _fields(content, start, stop):
        inside = (message, field) == _DATA_LOCATION and value == 0  # 0 is what a file says that has nothing to say
        if (message, field) in _REFUSED and not inside:
            raise _RefusedError(_REFUSED[message, field])
        inner = _MESSAGES.get((message, field))
        if inner is not None and end >= 0:
            found += 1
            _walk(content, inner, value, end)
    return found


def _fields(content: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Fields of a message: number, then its value and -1, or the first and last place of its bytes."""
    place = start
    while place < stop:
        tag, place = _varint(content, place, stop)
        kind = tag & 7
        if kind == _BYTES:
            size, place = _varint(content, place, stop)
            if size > stop - place:
                raise ValueError("a field runs beyond its message")
            yield tag >> 3, place, place + size
            place += size
        elif kind == _VARINT:
            value, place = _varint(content, place, stop)
            yield tag >> 3, value, -1
        elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
            place += 4 if kind == _FOUR_BYTES else 8
            if place > stop:
                raise ValueError("a field runs beyond its message")
        else:
            raise ValueError("a field of a kind that ONNX does not use")


def _varint(content: memoryview, place: int, stop: int) -> tuple[int, int]:
    """A number stored seven bits a byte, and the place behind it."""
    value = shift = 0
    while place < stop:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > _MAX_VARINT_BITS:
            break
    raise ValueError("a number that does not end")
