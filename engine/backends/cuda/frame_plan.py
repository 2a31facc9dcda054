"""A frame: the way of one batch of tiles from digital numbers to maps, as a list of launches over fixed places.

Nothing here touches a device. What comes out says which parts and kernels run one after the other on one stream, where
each of their arrays lies, and which numbers the kernels get: the same list is run, captured into a CUDA graph, printed,
and checked against the launch records.

    input -> prepare -> encoders (spatial -> attention -> aggregate -> temporal) -> fuse -> decode -> classify -> output
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...launching import ITEM_BYTES, LaunchRecord, evaluate
from ...plan.payloads import Part
from ..base import Grid
from .layout import Layout, Slot

__all__ = [
    "ARENA_BLOCKS",
    "FrameKey",
    "FramePlan",
    "KernelLaunch",
    "PartRun",
    "Place",
    "features_layout",
    "has_rest",
]


ARENA_BLOCKS = ("input", "output", "counts", "features", "known", "work")
"""Blocks of a frame that lie one behind the other in the session's arena: what arrives, maps, counts of what is no
number, what is primed, what was primed before, and all between."""


@dataclass(frozen=True)
class FrameKey:
    """What makes two frames differ.

    Attributes:
        batch: tiles.
        dates: each series that is given -> number of dates it is padded to.
        given: modalities whose digital numbers arrive with the frame.
        known: modalities that were primed.
        voided: whether void pixels are named.
        grid: of the maps; None for a frame that primes.
    """

    batch: int
    dates: tuple[tuple[str, int], ...]
    given: tuple[str, ...]
    known: tuple[str, ...]
    voided: bool
    grid: Grid | None


class Place(NamedTuple):
    """An array in one of `ARENA_BLOCKS`, in the frame's `constants`, or among the session's `weights`."""

    block: str
    slot: Slot


@dataclass(frozen=True)
class PartRun:
    """A part that TensorRT runs, with its doors' places."""

    part: Part
    profile: int
    doors: Mapping[str, Place]


@dataclass(frozen=True)
class KernelLaunch:
    """A kernel's launch: arrays (None where an array has no elements) and numbers, by the names of its arguments."""

    record: LaunchRecord
    arrays: Mapping[str, Place | None]
    numbers: Mapping[str, int | float]

    @property
    def grid(self) -> tuple[int, int, int]:
        """Number of programs along x, y, z."""
        values = self._values()
        x, y, z = (evaluate(text, values) for text in self.record.grid)
        return x, y, z

    def check(self) -> None:
        """Compare every array with what the kernel reads or writes there."""
        values = self._values()
        for parameter in self.record.parameters:
            if parameter.kind != "pointer":
                continue
            place = self.arrays[parameter.name]
            elements = prod(evaluate(text, values) for text in parameter.dims)
            assert parameter.dtype is not None
            needed = elements * ITEM_BYTES[parameter.dtype]
            got = (0, parameter.dtype) if place is None else (place.slot.nbytes, place.slot.dtype)
            expected = (needed, parameter.dtype)
            assert got == expected, f"{self.record.kernel}: {parameter.name} has {got}, expected {expected}"

    def _values(self) -> dict[str, int]:
        numbers = {name: value for name, value in self.numbers.items() if isinstance(value, int)}
        return {**self.record.constants, **self.record.configuration, **numbers}


@dataclass(frozen=True)
class FramePlan:
    """Everything of a frame but memory.

    Attributes:
        key: what it is for.
        layouts: block -> its arrays.
        constants: values of the block `constants`, by slot.
        steps: in order.
        known_bytes: how much of what is known the frame reads, from the block's start.
    """

    key: FrameKey
    layouts: Mapping[str, Layout]
    constants: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    steps: Sequence[PartRun | KernelLaunch] = ()
    known_bytes: int = 0

    @property
    def arena_bytes(self) -> int:
        """Bytes of the blocks that lie in the session's arena."""
        return sum(self.layouts[block].nbytes for block in ARENA_BLOCKS)


def has_rest(others: Sequence[str], *, known: Sequence[str], may_be_absent: Sequence[str]) -> bool:
    """Whether the sum of all modalities but the base can be made of those that are known.

    Args:
        others: modalities beside the base.
        known: those that were primed.
        may_be_absent: those with a stand-in.
    """
    return bool(others) and all(name in known or name in may_be_absent for name in others)


def features_layout(
    levels: Mapping[str, Sequence[tuple[int, int, int]]],
    *,
    base: str,
    modalities: Sequence[str],
    rest: bool,
    batch: int,
    dtype: str,
) -> Layout:
    """Pyramids of primed modalities: the base's first, then the sum of the others, then those one by one.

    Args:
        levels: modality -> rows, columns and channels of its levels.
        base: the base modality.
        modalities: that are primed.
        rest: whether the sum of the others is there.
        batch: tiles.
        dtype: of maps, by Triton's names.
    """
    layout = Layout()
    if base in modalities:
        _add_pyramid(layout, base, levels[base], batch, dtype)
    if rest:
        _add_pyramid(layout, "rest", levels[base], batch, dtype)
    for name in modalities:
        if name != base:
            _add_pyramid(layout, name, levels[name], batch, dtype)
    return layout


def _add_pyramid(layout: Layout, name: str, levels: Sequence[tuple[int, int, int]], batch: int, dtype: str) -> None:
    for place, shape in enumerate(levels):
        layout.add(f"{name}.level{place}", (batch, *shape), dtype)
