"""Our compiled kernels on a GPU: read from a plan, loaded through PyCUDA, launched by their records."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import BackendError
from ...launching import KernelFiles, LaunchRecord
from ...plan.payloads import KernelPayload
from .driver import Device
from .frame_plan import KernelLaunch, Place

__all__ = ["Kernel", "KernelSet", "kernels_for"]

_FORMATS = {"fp32": "<f", "i32": "<i"}
_POINTER = "<Q"
_USUAL_SHARED_BYTES = 48 * 1024
"""Shared memory of a block that needs no asking."""


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel: its launch record and what the driver loads, a cubin or PTX."""

    record: LaunchRecord
    image: bytes


def kernels_for(
    payloads: Iterable[KernelPayload], *, capability: int, member: Callable[[str], memoryview]
) -> tuple[tuple[Kernel, ...], str]:
    """Kernels of a plan that run on an architecture: its own cubins, or else the portable form of an earlier one.

    Args:
        payloads: of the plan.
        capability: compute capability of the GPU.
        member: gives a member's content, hashed.

    Returns:
        The kernels, none where no architecture serves, and a word on which were taken.

    Raises:
        BackendError: a launch record is not valid, or its files are not those that it describes.
    """
    by_capability = {payload.capability: payload for payload in payloads}
    if capability in by_capability:
        own = _read(by_capability[capability], member)
        return tuple(Kernel(each.record, each.cubin) for each in own), f"kernels compiled for sm_{capability}"
    for earlier in sorted((each for each in by_capability if each < capability), reverse=True):
        files = _read(by_capability[earlier], member)
        if not any(each.record.target.endswith("a") for each in files):
            # the driver reads text up to a NUL
            kernels = tuple(Kernel(each.record, each.ptx + b"\0") for each in files)
            return kernels, f"kernels of sm_{earlier}, which the driver compiles for sm_{capability}"
    there = ", ".join(f"sm_{each}" for each in sorted(by_capability)) or "none"
    return (), f"no kernels for sm_{capability} (the plan has {there})"


def _read(payload: KernelPayload, member: Callable[[str], memoryview]) -> list[KernelFiles]:
    found = []
    for kernel in payload.kernels:
        record, cubin, ptx = (bytes(member(name)) for name in (kernel.record, kernel.cubin, kernel.ptx))
        found.append(KernelFiles.of(record, cubin=cubin, ptx=ptx, place=kernel.record.removesuffix(".json")))
    return found


class KernelSet:
    """Kernels that are loaded; the device's context is current in every call.

    Args:
        device: where.
        kernels: what.

    Raises:
        BackendError: the driver does not take one of them.
    """

    def __init__(self, device: Device, kernels: Iterable[Kernel]) -> None:
        self._modules: list[Any] = []
        self._functions: dict[tuple[str, str], Any] = {}
        cuda = device.cuda
        for kernel in kernels:
            record = kernel.record
            try:
                module = cuda.module_from_buffer(kernel.image)
                function = module.get_function(record.symbol)
                if record.shared_bytes > _USUAL_SHARED_BYTES:
                    attribute = cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
                    function.set_attribute(attribute, record.shared_bytes)
            except cuda.Error as error:
                raise BackendError(
                    f"{record.kernel} for sm_{record.capability} cannot be loaded on {device.name} "
                    f"(sm_{device.capability}): {error}; run `uperfuse build` on the plan on this machine"
                ) from error
            self._modules.append(module)
            self._functions[record.kernel, record.variant] = function

    def launch(self, launch: KernelLaunch, *, stream: Any, address: Callable[[Place], int]) -> None:
        """Queue a launch.

        Args:
            launch: what.
            stream: of PyCUDA.
            address: of an array on the device.
        """
        record = launch.record
        values: list[int | float] = []
        for parameter in record.parameters:
            if parameter.kind == "pointer":
                place = launch.arrays[parameter.name]
                values.append(0 if place is None else address(place))
            else:
                values.append(launch.numbers.get(parameter.name, 0))
        grid = launch.grid
        if 0 in grid:
            return
        # what PyCUDA's own calls end in; before it they set the block's shape by a call that CUDA has deprecated
        self._functions[record.kernel, record.variant]._launch_kernel(
            grid, record.block, _packed(record, values), record.shared_bytes, stream
        )

    def close(self) -> None:
        """Unload everything."""
        self._functions.clear()
        self._modules.clear()


def _packed(record: LaunchRecord, values: Sequence[int | float]) -> bytes:
    """Parameters as the driver takes them: each at its offset, little-endian."""
    buffer = bytearray(record.parameter_bytes)
    for parameter, value in zip(record.parameters, values, strict=True):
        scalar = parameter.kind == "scalar" and parameter.dtype is not None
        kind = _FORMATS[str(parameter.dtype)] if scalar else _POINTER
        struct.pack_into(kind, buffer, parameter.offset, value)
    return bytes(buffer)
