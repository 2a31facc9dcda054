"""Our compiled kernels on a GPU: read from a plan, loaded through PyCUDA, launched by their records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ...errors import BackendError, PlanError
from ...launching import File, LaunchRecord
from ...plan.payloads import KernelPayload
from .driver import Device
from .frame_plan import KernelLaunch, Place

__all__ = ["KernelFile", "KernelSet", "kernel_files"]

_FORMATS = {"fp32": "f", "i32": "i"}
_POINTER = "P"
_USUAL_SHARED_BYTES = 48 * 1024
"""Shared memory of a block that needs no asking."""


@dataclass(frozen=True)
class KernelFile:
    """One compiled kernel: its launch record and what the driver loads, a cubin or PTX."""

    record: LaunchRecord
    image: memoryview


def kernel_files(
    payloads: Iterable[KernelPayload], *, capability: int, member: Callable[[str], memoryview]
) -> tuple[tuple[KernelFile, ...], str]:
    """Kernels of a plan that run on an architecture: its own cubins, or else the portable form of an earlier one.

    Args:
        payloads: of the plan.
        capability: compute capability of the GPU.
        member: gives a member's content, hashed.

    Returns:
        The files, none where no architecture serves, and a word on which were taken.

    Raises:
        PlanError: a launch record is not valid, or its files are not those that it describes.
    """
    by_capability = {payload.capability: payload for payload in payloads}
    if capability in by_capability:
        payload = by_capability[capability]
        files = tuple(_read(member, kernel.record, kernel.cubin, ptx=False) for kernel in payload.kernels)
        return files, f"kernels compiled for sm_{capability}"
    for earlier in sorted((each for each in by_capability if each < capability), reverse=True):
        files = tuple(_read(member, kernel.record, kernel.ptx, ptx=True) for kernel in by_capability[earlier].kernels)
        if not any(file.record.target.endswith("a") for file in files):
            return files, f"kernels of sm_{earlier}, which the driver compiles for sm_{capability}"
    there = ", ".join(f"sm_{each}" for each in sorted(by_capability)) or "none"
    return (), f"no kernels for sm_{capability} (the plan has {there})"


def _read(member: Callable[[str], memoryview], record_name: str, image_name: str, *, ptx: bool) -> KernelFile:
    try:
        record = LaunchRecord.model_validate_json(bytes(member(record_name)), strict=True)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise PlanError(f"{record_name} is not a launch record: {reason}; run `uperfuse build` again") from None
    image = member(image_name)
    if File.of(bytes(image)) != (record.ptx if ptx else record.cubin):
        raise PlanError(f"{image_name} is not the file that {record_name} describes; run `uperfuse build` again")
    return KernelFile(record, image)


class KernelSet:
    """Kernels that are loaded; the device's context is current in every call.

    Args:
        device: where.
        files: what.

    Raises:
        BackendError: the driver does not take one of them.
    """

    def __init__(self, device: Device, files: Iterable[KernelFile]) -> None:
        self._modules: list[Any] = []
        self._functions: dict[tuple[str, str], Any] = {}
        cuda = device.cuda
        for file in files:
            record = file.record
            try:
                module = cuda.module_from_buffer(bytes(file.image))
                function = module.get_function(record.symbol)
                if record.shared_bytes > _USUAL_SHARED_BYTES:
                    attribute = cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
                    function.set_attribute(attribute, record.shared_bytes)
            except cuda.Error as error:
                raise BackendError(
                    f"{record.kernel} for sm_{record.capability} cannot be loaded on {device.name} "
                    f"(sm_{device.capability}): {error}; run `uperfuse build` on the plan on this machine"
                ) from error
            function.prepare([_format(parameter.kind, parameter.dtype) for parameter in record.parameters])
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
        self._functions[record.kernel, record.variant].prepared_async_call(
            grid, record.block, stream, *values, shared_size=record.shared_bytes
        )

    def close(self) -> None:
        """Unload everything."""
        self._functions.clear()
        self._modules.clear()


def _format(kind: str, dtype: str | None) -> str:
    return _FORMATS[dtype] if kind == "scalar" and dtype is not None else _POINTER
