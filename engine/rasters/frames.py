"""Values between two processes of ours, through a pipe.

Arrays go as the memory that they are, and arrive in the memory that they stay in: they are copied into the pipe and out
of it, and nowhere else.

    bytes of each part (8 each, after their number) | the value, pickled without its arrays | each array
"""

from __future__ import annotations

import pickle
import struct
from io import RawIOBase
from typing import Any

import numpy as np

__all__ = ["receive", "send"]

_NUMBER = struct.Struct("<Q")


def send(pipe: RawIOBase, value: Any) -> None:
    """Write a value.

    Raises:
        OSError: nobody reads any more.
    """
    arrays: list[pickle.PickleBuffer] = []
    first = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    parts = [memoryview(first), *(array.raw() for array in arrays)]
    sizes = b"".join(_NUMBER.pack(number) for number in (len(parts), *(part.nbytes for part in parts)))
    for part in (memoryview(sizes), *parts):
        written = 0
        while written < part.nbytes:
            written += pipe.write(part[written:]) or 0


def receive(pipe: RawIOBase) -> Any:
    """Read a value.

    Raises:
        EOFError: nobody writes any more.
    """
    (count,) = _NUMBER.unpack(_read(pipe, _NUMBER.size))
    sizes = [_NUMBER.unpack(_read(pipe, _NUMBER.size))[0] for _ in range(count)]
    first, *arrays = [_read(pipe, size) for size in sizes]
    return pickle.loads(first, buffers=arrays)  # noqa: S301  both ends are ours


def _read(pipe: RawIOBase, size: int) -> memoryview:
    part = np.empty(size, np.uint8).data  # not zeroed first, unlike a bytearray
    done = 0
    while done < size:
        read = pipe.readinto(part[done:])
        if not read:
            raise EOFError
        done += read
    return part
