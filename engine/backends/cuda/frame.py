"""A frame on a GPU: its steps run once, captured into a CUDA graph, and replayed with one call from then on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ... import _native
from ...errors import BackendError
from .driver import Device, DeviceMemory
from .frame_plan import FramePlan, KernelLaunch, PartRun, Place
from .kernels import KernelSet
from .memory import bytes_of, place_blocks

__all__ = ["Frame", "PartContext", "PartRunner"]

_CAPTURE_CODES = range(900, 910)
"""CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED and its kin: the steps cannot be captured, and are as good as before."""


class PartContext(Protocol):
    """A part, ready to run with the shapes of one profile."""

    def bind(self, name: str, address: int) -> None:
        """Say where the array of a door lies."""
        ...

    def enqueue(self, stream: int) -> None:
        """Queue the part on a stream."""
        ...


class PartRunner(Protocol):
    """Gives the contexts of parts; made once for each part and profile."""

    def context(self, part: str, profile: int, *, stream: int) -> PartContext:
        """The context of a part."""
        ...


class Frame:
    """A planned frame, bound to memory.

    Making one runs its steps once on whatever its input holds, because TensorRT allocates what it needs when a context
    first runs, and captures them. The device's context is current in every call.

    Args:
        plan: what runs.
        device: where.
        parts: contexts of the parts.
        kernels: compiled kernels.
        arena: address of the memory that all frames share.
        weights: address of the kernels' parameters.
        stream: that everything runs on.

    Attributes:
        plan: what runs.
        captured: whether a graph replays it; else its steps are queued one by one.
        why_not: what the driver or TensorRT said when it could not be captured.
    """

    def __init__(
        self,
        plan: FramePlan,
        *,
        device: Device,
        parts: PartRunner,
        kernels: KernelSet,
        arena: int,
        weights: int,
        stream: Any,
    ) -> None:
        self.plan = plan
        self._kernels = kernels
        self._stream = stream
        self._constants = _upload_constants(plan, device)
        constants = self._constants.address if self._constants else 0
        self._blocks = place_blocks(plan, arena=arena, weights=weights, constants=constants)
        self._contexts = {
            id(step): parts.context(step.part.name, step.profile, stream=stream.handle)
            for step in plan.steps
            if isinstance(step, PartRun)
        }
        self._graph: _native.CudaGraph | None = None
        self.why_not = ""
        self._run_once(device)
        self._capture()

    @property
    def captured(self) -> bool:
        """Whether a graph replays it."""
        return self._graph is not None

    def address(self, block: str) -> int:
        """Where a block begins on the device."""
        return self._blocks.starts[block]

    def address_of(self, place: Place) -> int:
        """Where an array begins on the device."""
        return self._blocks.address(place)

    def run(self) -> None:
        """Queue the frame on its stream."""
        if self._graph is not None:
            self._graph.launch(self._stream.handle)
        else:
            self._queue()

    def close(self) -> None:
        """Give the graph and the constants back."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        if self._constants is not None:
            self._constants.release()
            self._constants = None
        # a failure's frames may still hold this one
        self._stream = None
        self._contexts.clear()

    def _queue(self) -> None:
        for step in self.plan.steps:
            if isinstance(step, KernelLaunch):
                self._kernels.launch(step, stream=self._stream, address=self._blocks.address)
            else:
                context = self._contexts[id(step)]
                for door, place in step.doors.items():
                    context.bind(door, self._blocks.address(place))
                context.enqueue(self._stream.handle)

    def _run_once(self, device: Device) -> None:
        layout = self.plan.layouts["input"]
        if layout.nbytes:  # zeros are numbers, whatever their type
            device.cuda.memset_d8_async(self.address("input"), 0, layout.nbytes, self._stream)
        self._queue()
        self._stream.synchronize()

    def _capture(self) -> None:
        handle = self._stream.handle
        _native.CudaGraph.capture_begin(handle)
        try:
            self._queue()
        except BackendError as error:  # TensorRT declines; what it queued before ran well a moment ago
            _native.CudaGraph.capture_abort(handle)
            self.why_not = str(error)
            return
        except BaseException:  # Ctrl-C, too: a stream is not left capturing
            _native.CudaGraph.capture_abort(handle)
            raise
        try:
            self._graph = _native.CudaGraph.capture_end(handle)
        except _native.CudaError as error:
            if error.code not in _CAPTURE_CODES:
                raise
            self.why_not = str(error)


def _upload_constants(plan: FramePlan, device: Device) -> DeviceMemory | None:
    layout = plan.layouts["constants"]
    if not layout.nbytes:
        return None
    memory = device.allocate(layout.nbytes)
    values: Mapping[str, Any] = plan.constants
    device.cuda.memcpy_htod(memory.address, bytes_of(layout, values))
    return memory
