"""The blocks of a frame in one arena, and what parts of it the host sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .frame_plan import ARENA_BLOCKS, FramePlan, Place
from .layout import Layout, Slot

__all__ = ["Blocks", "bytes_of", "place_blocks", "to_short", "view"]


@dataclass(frozen=True)
class Blocks:
    """Where a frame's blocks begin on the device."""

    starts: Mapping[str, int]

    def address(self, place: Place) -> int:
        """Address of an array."""
        return self.starts[place.block] + place.slot.offset


def place_blocks(plan: FramePlan, *, arena: int, weights: int, constants: int) -> Blocks:
    """Lay a frame's blocks into the arena, whose content no frame finds again after another one ran."""
    starts = {"weights": weights, "constants": constants}
    for block in ARENA_BLOCKS:
        starts[block] = arena
        arena += plan.layouts[block].nbytes
    return Blocks(starts)


def view(memory: NDArray[np.uint8], slot: Slot) -> NDArray[np.generic]:
    """An array of a layout inside host memory that holds the whole block."""
    return memory[slot.offset : slot.offset + slot.nbytes].view(slot.numpy).reshape(slot.shape)


def bytes_of(layout: Layout, values: Mapping[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    """A block's content on the host, from the values of its arrays."""
    memory = np.zeros(max(layout.nbytes, 1), np.uint8)
    for name, slot in layout.slots.items():
        memory[slot.offset : slot.offset + slot.nbytes] = np.ascontiguousarray(values[name]).view(np.uint8).reshape(-1)
    return memory


def to_short(values: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """Numbers in a type of maps, by Triton's names; bf16 as the bits that it keeps, rounded to the nearest even."""
    if dtype == "bf16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return values.astype({"fp32": np.float32, "fp16": np.float16}[dtype])
