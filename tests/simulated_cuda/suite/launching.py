"""Launches a compiled kernel by its record, as a program without Triton does: arrays, parameters, PyCUDA."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.simulated_cuda.launches import TORCH
from uperfuse.engine.launching import KernelFiles, evaluate

FORMATS = {"i32": "<i", "i64": "<q", "fp32": "<f"}


class Launcher:
    """One kernel on the device, and the arrays of one launch."""

    def __init__(self, driver: ModuleType, files: KernelFiles, arguments: Mapping[str, Tensor | int | float]) -> None:
        self.driver, self.record = driver, files.record
        self.module = driver.module_from_buffer(files.cubin)
        self.function = self.module.get_function(self.record.symbol)
        if self.record.shared_bytes > 48 * 1024:
            limit = driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            self.function.set_attribute(limit, self.record.shared_bytes)
        scalars = {each.name: arguments[each.name] for each in self.record.parameters if each.kind == "scalar"}
        self.known: dict[str, Any] = {**self.record.constants, **self.record.configuration, **scalars}
        self.arrays = {}
        self.parameters = bytearray(self.record.parameter_bytes)
        for each in self.record.parameters:
            if each.kind == "scalar":
                struct.pack_into(FORMATS[each.dtype], self.parameters, each.offset, scalars[each.name])
            elif each.kind == "pointer":
                self._place(each, arguments.get(each.name))

    def _place(self, parameter, value: Tensor | None) -> None:
        extents = [evaluate(text, self.known) for text in parameter.dims]
        empty = torch.empty(extents, dtype=TORCH[parameter.dtype])
        if not empty.numel():
            return
        array = self.driver.mem_alloc(empty.nbytes)
        self.arrays[parameter.name] = array, empty
        self.point(parameter.name, int(array))
        if not parameter.written:
            assert value.dtype == empty.dtype
            assert value.numel() == empty.numel()
            self.driver.memcpy_htod(array, as_bytes(value))

    def point(self, name: str, address: int) -> None:
        """Pass another address for an array."""
        (parameter,) = (each for each in self.record.parameters if each.name == name)
        struct.pack_into("<Q", self.parameters, parameter.offset, address)

    def launch(self, stream, *, grid: tuple[int, int, int] | None = None) -> None:
        """Put the kernel on a stream."""
        asked = grid or tuple(evaluate(text, self.known) for text in self.record.grid)
        buffer = bytes(self.parameters)
        self.function._launch_kernel(asked, self.record.block, buffer, self.record.shared_bytes, stream)

    def read(self, name: str) -> Tensor:
        """What lies in an array now; waits for the device."""
        array, empty = self.arrays[name]
        self.driver.memcpy_dtoh(as_bytes(empty), array)
        return empty.clone()


def as_bytes(tensor: Tensor) -> np.ndarray:
    """A tensor's own bytes."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
