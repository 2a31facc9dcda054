"""The GPU through PyCUDA: its primary context, memory, streams, and what the driver says in words.

The primary context is the one that PyTorch, CuPy and TensorRT use too: all of them share the GPU in one process. It is
current only inside `Device.current()`: any thread may call, and none finds its own context changed afterwards.
"""

from __future__ import annotations

import ctypes
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _native
from ...errors import BackendError

__all__ = ["Device", "DeviceMemory", "device_count", "forget_frames", "import_pycuda", "keep_for_good"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: no waiting for what others do on the legacy stream
_NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING

# What a driver's message holds -> what is to be done. The first one that fits is taken.
_REMEDIES = (
    ("out of memory", "close other programs on the GPU, or build the plan for fewer tiles at a time (--batch)"),
    ("no kernel image", "the plan's kernels do not run on this GPU; run `uperfuse build` on the plan here"),
    (
        "device kernel image is invalid",
        "the plan's kernels do not run on this GPU; run `uperfuse build` on the plan here",
    ),
    ("unsupported toolchain", "the driver is older than the plan's kernels; update it, or build with --no-kernels"),
    ("driver version is insufficient", "update the NVIDIA driver"),
    ("no CUDA-capable device", "check the GPU with nvidia-smi, or use device='cpu'"),
    ("busy", "another program holds the GPU for itself, or it was lost; close what uses it, and load again"),
)
_LOST = "the GPU's context is lost; close this engine, and all else that uses the GPU in this process, and load again"


def import_pycuda() -> Any:
    """PyCUDA's driver module.

    Raises:
        BackendError: it is not installed, or finds no driver.
    """
    try:
        return import_module("pycuda.driver")
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise BackendError(
            f"PyCUDA cannot be imported ({reason}); pip install pycuda where the CUDA toolkit and NVIDIA's driver are"
        ) from error


def device_count() -> int:
    """Number of GPUs that the driver offers.

    Raises:
        BackendError: PyCUDA or the driver is missing.
    """
    cuda = import_pycuda()
    try:
        cuda.init()
        return int(cuda.Device.count())
    except cuda.Error as error:
        raise _in_words(error) from error


class DeviceMemory:
    """A block of a GPU's memory; freed by its device when it is given back, at a moment that suits the driver.

    Attributes:
        address: on the device.
        nbytes: of the block.
    """

    def __init__(self, device: Device, allocation: Any, nbytes: int) -> None:
        self.address = int(allocation)
        self.nbytes = nbytes
        self._device: Device | None = device
        self._allocation = allocation

    @property
    def device(self) -> Device:
        """Whose memory it is."""
        assert self._device is not None, "the block was given back"
        return self._device

    def release(self) -> None:
        """Give the block back; safe twice, from any thread, and while a graph is captured."""
        device, allocation, self._device, self._allocation = self._device, self._allocation, None, None
        if device is not None:
            device.bury(allocation)
            device.release()

    def __del__(self) -> None:
        self.release()


class Device:
    """One GPU, held until the last of its users lets go.

    Args:
        ordinal: which GPU.

    Raises:
        BackendError: there is no such GPU, or its context cannot be had.

    Attributes:
        ordinal: which GPU.
        name: as the driver spells it.
        capability: compute capability, 87 for 8.7.
        integrated: whether it shares its memory with the host.
        driver_version: CUDA version of the driver, such as (12, 6).
    """

    def __init__(self, ordinal: int) -> None:
        self.cuda = import_pycuda()
        count = device_count()
        if not 0 <= ordinal < count:
            raise BackendError(f"device is cuda:{ordinal}, and there are {count} GPUs; name one of them or use 'cpu'")
        self._lock = threading.Lock()
        self._holders = 1
        self._graves: deque[Any] = deque()
        self.ordinal = ordinal
        try:
            device = self.cuda.Device(ordinal)
            major, minor = device.compute_capability()
            self.integrated = bool(device.get_attribute(self.cuda.device_attribute.INTEGRATED))
            self.name = str(device.name())
            self.capability = int(major) * 10 + int(minor)
            version = int(self.cuda.get_driver_version())
            self.driver_version = (version // 1000, version % 1000 // 10)
            # last, so that nothing fails once it is there
            self._context = device.retain_primary_context()
        except self.cuda.Error as error:
            raise _in_words(error) from error

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU's primary context current for the calling thread; what the driver says becomes words.

        Raises:
            BackendError: a call of the driver failed inside.
        """
        try:
            self._context.push()
        except self.cuda.Error as error:
            raise _in_words(error) from error
        try:
            yield
        except self.cuda.Error as error:
            raise _in_words(error) from error
        except _native.CudaError as error:
            raise _in_words(error) from error
        finally:
            self.cuda.Context.pop()

    def hold(self) -> Device:
        """One user more."""
        with self._lock:
            self._holders += 1
        return self

    def release(self) -> None:
        """One user less; the last one gives the context back."""
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
        try:
            self._context.push()
        except self.cuda.Error:
            self._abandon()
            return
        self._free_buried()
        # PyCUDA gives a primary context back without taking it off the thread's stack
        self._context.detach()
        with suppress(_native.CudaError):
            _native.cuda_pop_context()

    def _abandon(self) -> None:
        """Give back a context that is lost, so that the next one that is asked for is new."""
        keep_for_good(self._context, *self._graves)
        self._graves.clear()
        with suppress(_native.CudaError):
            _native.cuda_release_primary_context(self.ordinal)

    def bury(self, allocation: Any) -> None:
        """Free an allocation at the next good moment: never inside a capture, and with the context current."""
        self._graves.append(allocation)

    def free_buried(self) -> None:
        """The good moment; the context is current."""
        self._free_buried()

    def free_bytes(self) -> tuple[int, int]:
        """Free memory and all memory of the GPU; the context is current."""
        free, total = self.cuda.mem_get_info()
        return int(free), int(total)

    def allocate(self, nbytes: int) -> DeviceMemory:
        """A block of memory at an address that 256 divides; the context is current.

        Raises:
            BackendError: there is not as much.
        """
        self._free_buried()
        try:
            allocation = self.cuda.mem_alloc(max(nbytes, 1))
        except self.cuda.MemoryError as error:
            free, total = self.free_bytes()
            raise BackendError(
                f"{self.name} has {free / 1e6:.0f} MB of {total / 1e6:.0f} MB free, expected {nbytes / 1e6:.0f} MB; "
                f"{_REMEDIES[0][1]}"
            ) from error
        return DeviceMemory(self.hold(), allocation, nbytes)

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Page-locked memory of the host; the context is current."""
        array: NDArray[np.uint8] = self.cuda.pagelocked_empty(max(nbytes, 1), np.uint8)
        return array

    def stream(self) -> Any:
        """A stream that waits for nobody else's; the context is current."""
        return self.cuda.Stream(_NON_BLOCKING)

    def event(self) -> Any:
        """An event that takes no time; the context is current."""
        return self.cuda.Event(_NO_TIMING)

    def _free_buried(self) -> None:
        while self._graves:
            try:
                allocation = self._graves.popleft()
            except IndexError:  # another thread was faster
                return
            allocation.free()


def keep_for_good(*lost: object) -> None:
    """Never let go of objects of a context that is lost: PyCUDA would end the process where it cannot free them.

    Args:
        lost: objects; few, and once for every context that is lost.
    """
    for each in lost:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


def forget_frames(error: BaseException) -> None:
    """Let go of what the frames of a failure hold: streams and memory must not outlive their context.

    Args:
        error: that is raised, or about to be raised again.
    """
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__


def _in_words(error: Exception) -> BackendError:
    """What the driver says, and what is to be done."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    for fragment, remedy in _REMEDIES:
        if fragment in said:
            return BackendError(f"CUDA: {said}; {remedy}")
    return BackendError(f"CUDA: {said}; {_LOST}")
