"""Carries kernels' launches out: from the parameters' bytes to arrays, from these to the kernel's reference, and back.

A launch record says what the bytes mean. Whatever a real kernel would take at its word is checked here: that the grid
is the one that the record asks for, that arrays are aligned and lie inside of live memory, that what is written
overlaps nothing, and that the form of the kernel is the one for these sizes.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from uperfuse.engine.launching import ITEM_BYTES, LaunchRecord, Parameter, evaluate

from . import control, references
from .control import RawLaunch, SimulationError

__all__ = ["carry_out"]

TORCH = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "u16": torch.uint16,
    "u8": torch.uint8,
}
SCALARS = {"i32": "<i", "i64": "<q", "fp32": "<f"}

_hashes: dict[int, str] = {}


@dataclass(frozen=True)
class Span:
    """Where an array lies."""

    name: str
    address: int
    nbytes: int
    written: bool

    def overlaps(self, other: Span) -> bool:
        """Whether two arrays have a byte in common."""
        apart = self.address >= other.address + other.nbytes or other.address >= self.address + self.nbytes
        return not apart and self.nbytes > 0 and other.nbytes > 0


def carry_out(launch: RawLaunch) -> None:
    """Do what a launched kernel does.

    Args:
        launch: as the driver hands it over.

    Raises:
        SimulationError: a real kernel would read or write wrongly; what it got and what it should have got.
    """
    record = _record(launch)
    values = ctypes.string_at(launch.parameters, launch.parameter_bytes)
    if len(values) != record.parameter_bytes:
        raise SimulationError(f"has {len(values)} bytes of parameters, expected {record.parameter_bytes}")
    scalars = {each.name: _scalar(each, values) for each in record.parameters if each.kind == "scalar"}
    known = {**record.constants, **record.configuration, **scalars}
    _check_geometry(launch, record, known)
    arrays: dict[str, Tensor] = {}
    spans = []
    for parameter in record.parameters:
        address = struct.unpack_from("<Q", values, parameter.offset)[0] if parameter.kind != "scalar" else 0
        if parameter.kind == "null" and address:
            raise SimulationError(f"{parameter.name} is {address:#x}, expected zero")
        if parameter.kind == "pointer":
            span = _span(parameter, address, known)
            spans.append(span)
            arrays[parameter.name] = _array(parameter, span, known)
    _check_overlaps(record, spans)
    made = references.run(record, scalars=scalars, arrays=arrays)
    _write(record, arrays, made)


def _record(launch: RawLaunch) -> LaunchRecord:
    if launch.module not in _hashes:
        _hashes[launch.module] = hashlib.sha256(ctypes.string_at(launch.image, launch.image_bytes)).hexdigest()
    record = control.record_of(_hashes[launch.module])
    if record is None:
        raise SimulationError("is of a module that no registered launch record describes; control.register its record")
    if launch.kernel.decode() != record.symbol:
        raise SimulationError(f"is not {record.symbol}, which the module's record describes")
    return record


def _scalar(parameter: Parameter, values: bytes) -> int | float:
    assert parameter.dtype is not None
    found: int | float = struct.unpack_from(SCALARS[parameter.dtype], values, parameter.offset)[0]
    return found


def _check_geometry(launch: RawLaunch, record: LaunchRecord, known: Mapping[str, int]) -> None:
    expected = (tuple(evaluate(text, known) for text in record.grid), record.block, record.shared_bytes)
    found = (tuple(launch.grid), tuple(launch.block), launch.shared_bytes)
    if found != expected:
        raise SimulationError(f"has grid, block and shared memory {found}, expected {expected}")


def _span(parameter: Parameter, address: int, known: Mapping[str, int]) -> Span:
    assert parameter.dtype is not None
    elements = prod(evaluate(text, known) for text in parameter.dims)
    if elements < 0:
        raise SimulationError(f"{parameter.name} has {elements} elements")
    if elements and address % parameter.alignment:
        raise SimulationError(f"{parameter.name} is at {address:#x}, expected a multiple of {parameter.alignment}")
    return Span(parameter.name, address, elements * ITEM_BYTES[parameter.dtype], parameter.written)


def _array(parameter: Parameter, span: Span, known: Mapping[str, int]) -> Tensor:
    """The array itself, where it lies."""
    assert parameter.dtype is not None
    extents = [evaluate(text, known) for text in parameter.dims]
    if not span.nbytes:
        return torch.empty(extents, dtype=TORCH[parameter.dtype])
    try:
        there = control.memory(span.address, span.nbytes)
    except SimulationError as error:
        raise SimulationError(f"{parameter.name}: {error}") from None
    return torch.from_numpy(there).view(TORCH[parameter.dtype]).reshape(extents)


def _check_overlaps(record: LaunchRecord, spans: list[Span]) -> None:
    for one in (span for span in spans if span.written):
        for other in spans:
            # the sum so far: a program reads its own part before it writes it
            continues = record.kernel == "pyramid_fusion" and other.name.startswith("same")
            in_place = continues and (one.address, one.nbytes) == (other.address, other.nbytes)
            if one is not other and one.overlaps(other) and not in_place:
                raise SimulationError(f"writes {one.name}, which overlaps {other.name}")


def _write(record: LaunchRecord, arrays: Mapping[str, Tensor], made: Mapping[str, Tensor]) -> None:
    written = {each.name for each in record.parameters if each.written}
    assert written == made.keys(), f"{record.kernel} writes {sorted(written)}, its reference {sorted(made)}"
    for name, values in made.items():
        assert values.numel() == arrays[name].numel(), f"{name} is {list(values.shape)}, not {list(arrays[name].shape)}"
        arrays[name].copy_(values.reshape(arrays[name].shape))
