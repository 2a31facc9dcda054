"""Arrays that lie on a GPU: taken from other libraries and given to them, without this one's needing any of them.

Two protocols are spoken: `__cuda_array_interface__` (CuPy, Numba, PyTorch, PyCUDA) and DLPack (PyTorch, JAX, CuPy).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from . import _native
from .errors import TileError

__all__ = ["DeviceArray", "as_device_array"]

_INTERFACE_VERSION = 3
_CUDA = 2
"""DLPack's number of the kind of device."""
_CODES = {"i": 0, "u": 1, "f": 2}
"""NumPy's kinds of numbers -> DLPack's."""


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A dense array in a GPU's memory.

    Attributes:
        address: of its first element.
        shape: slowest axis first.
        dtype: of its elements.
        owner: what keeps the memory alive.
        ordinal: which GPU; None where its maker does not say.
        stream: CUDA stream, as a number, that may still write the array; None where it is ready.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any = field(repr=False)
    ordinal: int | None = None
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

    def __dlpack_device__(self) -> tuple[int, int]:
        """Kind and number of the device, as DLPack counts them."""
        return _CUDA, self.ordinal or 0

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """A DLPack capsule; the array is ready, so that no stream has to wait."""
        return _native.lend_array(
            self.address,
            shape=self.shape,
            code=_CODES[self.dtype.kind],
            bits=8 * self.dtype.itemsize,
            device_type=_CUDA,
            ordinal=self.ordinal or 0,
            owner=self,
        )

    def stacked(self) -> DeviceArray:
        """The array as the only entry of a first axis."""
        return self._part(self.address, (1, *self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> DeviceArray:
        """One entry along the first axis."""
        if not 0 <= index < self.shape[0]:
            raise IndexError(index)
        size = prod(self.shape[1:]) * self.dtype.itemsize
        return self._part(self.address + index * size, self.shape[1:])

    def _part(self, address: int, shape: tuple[int, ...]) -> DeviceArray:
        return DeviceArray(address, shape, self.dtype, self.owner, self.ordinal, self.stream)


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
        interface = None
    if interface is not None:
        return _from_interface(given, interface, what)
    if hasattr(given, "__dlpack_device__") and int(given.__dlpack_device__()[0]) == _CUDA:
        return _from_dlpack(given, what)
    return None


def _from_interface(given: Any, interface: dict[str, Any], what: str) -> DeviceArray:
    shape, dtype = tuple(map(int, interface["shape"])), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    if strides is not None and tuple(strides) != _dense(shape, dtype.itemsize):
        raise TileError(f"{what} lies on the GPU with strides {tuple(strides)}, expected a dense array; copy it first")
    return DeviceArray(int(interface["data"][0]), shape, dtype, given, stream=interface.get("stream"))


def _from_dlpack(given: Any, what: str) -> DeviceArray:
    # the legacy stream: whoever made the array has it wait, and everybody may read it afterwards
    borrowed = _native.borrow_array(given.__dlpack__(stream=1))
    address, shape, (code, bits, lanes), _, dense = borrowed.describe()
    if not dense:
        raise TileError(f"{what} lies on the GPU with gaps between its elements, expected a dense array; copy it first")
    kinds = {number: kind for kind, number in _CODES.items()}
    if code not in kinds or lanes != 1 or bits % 8:
        raise TileError(f"{what} is of DLPack's type {code} of {bits} bits, expected whole or floating point numbers")
    dtype, ordinal = np.dtype(f"{kinds[code]}{bits // 8}"), int(given.__dlpack_device__()[1])
    return DeviceArray(address, shape, dtype, borrowed, ordinal, stream=1)


def _dense(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = [itemsize]
    for side in reversed(shape[1:]):
        strides.insert(0, strides[0] * side)
    return tuple(strides[: len(shape)])
