"""The framing of protobuf files: a message is a sequence of numbered fields, each a number or a stretch of bytes.

ONNX files are read by it before any library meets them, and put together without one.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["fields", "frame"]

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_MAX_VARINT_BITS = 63


def fields(content: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Fields of a message: number, then its value and -1, or the first and last place of its bytes.

    Raises:
        ValueError: it is no message, or cut short.
    """
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


def frame(field: int, *stretches: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Field number `field` of a message, holding these bytes one behind the other."""
    yield _number(field << 3 | _BYTES)
    yield _number(sum(map(len, stretches)))
    yield from stretches


def _number(value: int) -> bytes:
    """A number, seven bits a byte, the lowest first."""
    stored = bytearray()
    while value > 0x7F:
        stored.append(value & 0x7F | 0x80)
        value >>= 7
    stored.append(value)
    return bytes(stored)


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
