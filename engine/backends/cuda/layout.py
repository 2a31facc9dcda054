"""Where arrays lie in a block of memory: sizes and offsets alone, no memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from ...launching import ITEM_BYTES

__all__ = ["ALIGNMENT", "Layout", "Slot"]

ALIGNMENT = 256
"""Bytes that divide the offset of every array, as CUDA's own allocations have it."""

_NUMPY = {"fp32": "f4", "fp16": "f2", "i64": "i8", "i32": "i4", "i16": "i2", "u16": "u2", "u8": "u1"}


@dataclass(frozen=True)
class Slot:
    """One array of a layout.

    Attributes:
        name: unique in its layout.
        offset: from the block's start, bytes.
        shape: of the array.
        dtype: by Triton's names, as launch records have them.
    """

    name: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """Type of the array on the host; NumPy knows no bf16."""
        return np.dtype(_NUMPY[self.dtype])


@dataclass
class Layout:
    """A block that grows by one array at a time."""

    nbytes: int = 0
    slots: dict[str, Slot] = field(default_factory=dict)

    def add(self, name: str, shape: tuple[int, ...], dtype: str) -> Slot:
        """Place an array behind those that are there."""
        assert name not in self.slots, f"{name} is placed twice"
        slot = Slot(name, self.nbytes, shape, dtype)
        self.slots[name] = slot
        self.nbytes += -(-slot.nbytes // ALIGNMENT) * ALIGNMENT
        return slot

    def __getitem__(self, name: str) -> Slot:
        return self.slots[name]
