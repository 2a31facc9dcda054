"""Arrays that lie on a GPU: taken from other libraries and given to them, without this one's needing any of them.

Two protocols are spoken: `__cuda_array_interface__` (CuPy, Numba, PyTorch, PyCUDA) and DLPack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from .errors import TileError

__all__ = ["DeviceArray", "as_device_array"]

_INTERFACE_VERSION = 3


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A dense array in a GPU's memory.

    Attributes:
        address: of its first element.
        shape: slowest axis first.
        dtype: of its elements.
        owner: what keeps the memory alive.
        stream: CUDA stream, as a number, that may still write the array; None where it is ready.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any = field(repr=False)
    stream: int | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """What CuPy, Numba and PyTorch read."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": self.stream,
            "version": _INTERFACE_VERSION,
        }

    def stacked(self) -> DeviceArray:
        """The array as the only entry of a first axis."""
        return DeviceArray(self.address, (1, *self.shape), self.dtype, self.owner, self.stream)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> DeviceArray:
        """One entry along the first axis."""
        if not 0 <= index < self.shape[0]:
            raise IndexError(index)
        size = prod(self.shape[1:]) * self.dtype.itemsize
        return DeviceArray(self.address + index * size, self.shape[1:], self.dtype, self.owner, self.stream)


def as_device_array(given: Any, *, what: str) -> DeviceArray | None:
    """An array of another library that lies on a GPU; None where it does not.

    Args:
        given: anything.
        what: its name, for messages.

    Raises:
        TileError: it lies on a GPU, and not dense.
    """
    if isinstance(given, DeviceArray):
        return given
    # a tensor of PyTorch on the processor has the attribute, and raises when it is asked
    try:
        interface = getattr(given, "__cuda_array_interface__", None)
    except (AttributeError, RuntimeError, TypeError):
        return None
    if interface is None:
        return None
    shape, dtype = tuple(map(int, interface["shape"])), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    if strides is not None and tuple(strides) != _dense(shape, dtype.itemsize):
        raise TileError(f"{what} lies on the GPU with strides {tuple(strides)}, expected a dense array; copy it first")
    return DeviceArray(int(interface["data"][0]), shape, dtype, given, interface.get("stream"))


def _dense(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = [itemsize]
    for side in reversed(shape[1:]):
        strides.insert(0, strides[0] * side)
    return tuple(strides[: len(shape)])
