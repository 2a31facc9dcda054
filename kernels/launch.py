"""Launches a kernel from PyTorch, checked against its declaration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from ..engine.launching import ITEM_BYTES, POINTER_ALIGNMENT, evaluate
from . import dispatch
from .spec import KernelSpec, Pointer, Variant

__all__ = ["Launch", "collect", "dtype_name", "launch"]

DTYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.uint16: "u16",
    torch.uint8: "u8",
}
INTERPRETED_CAPABILITY = 87
"""Whose configuration the interpreter runs."""


@dataclass(frozen=True)
class Launch:
    """A launch that was asked for.

    Attributes:
        spec: the kernel.
        variant: its form.
        values: every scalar and every compile-time constant, by name.
    """

    spec: KernelSpec
    variant: Variant
    values: Mapping[str, int]

    @property
    def compulsory_bytes(self) -> int:
        """Bytes of every array of the declaration, each read or written once."""
        return sum(
            ITEM_BYTES[self.spec.dtype(pointer, self.variant)]
            * prod(evaluate(text, self.values) for text in pointer.dims)
            for pointer in self.spec.pointers
        )


_collected: list[Launch] | None = None


@contextmanager
def collect() -> Iterator[list[Launch]]:
    """Collect launches, in order, instead of running them: what they would have written stays unwritten.

    Inside, operations go the way of their kernels on any device, so that neither a GPU nor the interpreter is needed.
    """
    global _collected
    before = _collected, dispatch._interpreting
    _collected, dispatch._interpreting = [], True
    try:
        yield _collected
    finally:
        _collected, dispatch._interpreting = before


def dtype_name(tensor: Tensor) -> str:
    """Triton's name for a tensor's dtype.

    Raises:
        TypeError: kernels do not know the dtype.
    """
    try:
        return DTYPES[tensor.dtype]
    except KeyError:
        raise TypeError(f"tensor is {tensor.dtype}, expected one of {list(DTYPES)}; convert it") from None


def launch(
    spec: KernelSpec,
    *,
    variant: Variant,
    arguments: Mapping[str, Tensor | int | float],
    capability: int | None = None,
) -> None:
    """Run a kernel.

    Args:
        spec: the kernel.
        variant: its form.
        arguments: name -> contiguous tensor or number, one for each of the declaration's arguments.
        capability: compute capability whose configuration is taken; that of the tensors' device where left out.

    Raises:
        TypeError: a tensor has another dtype than declared, or the declaration does not admit it.
        ValueError: a tensor has another number of elements than declared, is not contiguous, is not aligned to 16
            bytes, or lies on another device than the first one.
    """
    for name, dtype in variant.types.items():
        if dtype not in spec.admits[name]:
            raise TypeError(f"{spec.name} runs with {name} = {dtype}, expected one of {spec.admits[name]}; convert it")
    tensors = [arguments[pointer.name] for pointer in spec.pointers]
    first = next(each for each in tensors if isinstance(each, Tensor))
    device = first.device
    if capability is None:
        capability = _capability(device)
    configuration = spec.configure(variant, capability)
    values = {**variant.constants, **configuration.constants}
    values |= {each.name: arguments[each.name] for each in spec.scalars}  # type: ignore[misc]  # scalars are numbers
    for pointer, tensor in zip(spec.pointers, tensors, strict=True):
        _check(spec, pointer, tensor, dtype=spec.dtype(pointer, variant), values=values, device=device)
    grid = tuple(evaluate(text, values) for text in spec.grid)
    if 0 in grid:
        return
    if _collected is not None:
        _collected.append(Launch(spec, variant, values))
        return
    # Triton launches on the current device, whichever the tensors are on
    with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]  # torch says no types
        spec.function[grid](
            *(arguments[each.name] for each in spec.arguments),
            **variant.constants,
            **configuration.constants,
            num_warps=configuration.warps,
            num_stages=configuration.stages,
            maxnreg=configuration.registers,
        )


@lru_cache(maxsize=16)
def _capability(device: torch.device) -> int:
    if device.type != "cuda":
        return INTERPRETED_CAPABILITY
    major, minor = torch.cuda.get_device_capability(device)
    return major * 10 + minor


def _check(
    spec: KernelSpec,
    pointer: Pointer,
    tensor: object,
    *,
    dtype: str,
    values: Mapping[str, int],
    device: torch.device,
) -> None:
    """Refuse a tensor that the kernel would read or write wrongly."""
    what = f"{spec.name}: {pointer.name}"
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{what} is a {type(tensor).__name__}, expected a tensor; give one")
    if dtype_name(tensor) != dtype:
        raise TypeError(f"{what} is {tensor.dtype}, expected {dtype}; convert it")
    extents = [evaluate(text, values) for text in pointer.dims]
    elements = 1
    for extent in extents:
        elements *= extent
    if tensor.numel() != elements:
        raise ValueError(f"{what} has {tensor.numel()} elements, expected {extents} {pointer.dims}; give that many")
    if not tensor.is_contiguous():
        raise ValueError(f"{what} has strides {tensor.stride()}, expected contiguous; call .contiguous() first")
    if tensor.data_ptr() % POINTER_ALIGNMENT:
        raise ValueError(f"{what} starts at an address that {POINTER_ALIGNMENT} does not divide; clone the view first")
    if tensor.device != device:
        raise ValueError(f"{what} is on {tensor.device}, expected {device}; move it there")
