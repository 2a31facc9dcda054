"""What runs on one GPU for one plan: memory sized once, two streams, and the frames that were needed so far.

Tile n + 1 is brought to the GPU on a stream of its own while tile n is computed:

    host             stage n + 1, then collect n
    copy stream      n + 1 -> staging
    compute stream   staging -> input, graph, output -> host

The device's context is current, and one thread at a time is inside, in every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import TileError
from ...tiles import Tile
from ..base import Grid
from .built_network import BuiltNetwork
from .draft import plan_frame
from .driver import Device, DeviceMemory
from .frame import Frame, PartRunner
from .frame_plan import FrameKey, FramePlan
from .kernels import KernelSet
from .layout import Layout
from .memory import bytes_of, view
from .staging import Void, device_images, frame_key, stage
from .weights import weight_arrays, weights_layout

__all__ = ["CudaSession", "Run"]

_GRIDS: tuple[Grid, ...] = ("label", "base")


class _Lane:
    """Host memory and events of every other chunk.

    Attributes:
        arrived: digital numbers, in the form of a frame's input.
        maps: a frame's output.
        counts: of what is no number.
        copied: that what arrived is on the device.
        done: that maps and counts are on the host.
    """

    def __init__(self, device: Device, plans: Sequence[FramePlan]) -> None:
        largest = {block: max(plan.layouts[block].nbytes for plan in plans) for block in ("input", "output", "counts")}
        self.arrived = device.pinned(largest["input"])
        self.maps = device.pinned(largest["output"])
        self.counts = device.pinned(largest["counts"])
        self.copied: Any = device.event()
        self.done: Any = device.event()

    def close(self) -> None:
        """Let go of everything, whoever still holds the lane: a failure's frames may."""
        self.arrived = self.maps = self.counts = np.empty(0, np.uint8)
        self.copied = self.done = None


@dataclass
class Run:
    """A chunk of tiles under way.

    Attributes:
        frame: that computes it.
        tiles: that are real; others of the batch are padding.
        lane: where its maps arrive.
    """

    frame: Frame
    tiles: int
    lane: _Lane

    def wait(self) -> None:
        """Wait until everything that was asked for has arrived."""
        self.lane.done.synchronize()

    def array(self, block: str, name: str) -> NDArray[Any]:
        """An array of the block `output` or `counts` on the host, of real tiles; valid until the next run but one."""
        memory = self.lane.maps if block == "output" else self.lane.counts
        return view(memory, self.frame.plan.layouts[block][name])[: self.tiles]


class CudaSession:
    """See the module.

    Args:
        device: where.
        network: what runs.
        parts: contexts of the parts, whose scratch memory the session provides.
        kernels: compiled kernels.

    Raises:
        BackendError: there is not enough memory, or a kernel is missing.
    """

    def __init__(self, device: Device, network: BuiltNetwork, *, parts: PartRunner, kernels: KernelSet) -> None:
        self._device = device
        self._network = network
        self._parts = parts
        self._kernels = kernels
        self._frames: dict[FrameKey, Frame] = {}
        self._memory: list[DeviceMemory] = []
        self._next_lane = 0
        self._layout = weights_layout(network)
        plans = [plan_frame(network, self._layout, key) for key in _largest_keys(network)]
        try:
            self._arena = self._allocate(max(plan.arena_bytes for plan in plans) + _rest_bytes(network))
            self._staging = self._allocate(max(plan.layouts["input"].nbytes for plan in plans))
            self._weights = self._allocate(self._layout.nbytes)
            device.cuda.memcpy_htod(self._weights.address, bytes_of(self._layout, weight_arrays(network)))
            self.compute: Any = device.stream()
            self._copy: Any = device.stream()
            self._staging_free: Any = device.event()
            self._lanes = [_Lane(device, plans), _Lane(device, plans)]
        except BaseException:  # Ctrl-C while weights are copied, too: device memory goes back
            self._release_memory()
            raise

    @property
    def reasons(self) -> tuple[str, ...]:
        """Frames that no graph replays, and why."""
        return tuple(dict.fromkeys(frame.why_not for frame in self._frames.values() if frame.why_not))

    def key(
        self, tiles: Sequence[Tile], *, known: Sequence[str], void: Sequence[Void], grid: Grid | None, batch: int
    ) -> FrameKey:
        """What frame a chunk of tiles needs; see `frame_key`."""
        buckets = self._network.payload.dates
        return frame_key(tiles, self._network.manifest, batch=batch, buckets=buckets, known=known, void=void, grid=grid)

    def frame(self, key: FrameKey) -> Frame:
        """The frame for a key; made when it is first needed.

        Raises:
            BackendError: a kernel is missing, or the device failed.
        """
        if key not in self._frames:
            plan = plan_frame(self._network, self._layout, key)
            assert plan.arena_bytes <= self._arena.nbytes, f"the arena was sized too small for {key}"
            self.compute.synchronize()  # it shares its memory with those that may still run
            self._frames[key] = Frame(
                plan,
                device=self._device,
                parts=self._parts,
                kernels=self._kernels,
                arena=self._arena.address,
                weights=self._weights.address,
                stream=self.compute,
            )
        return self._frames[key]

    def start(self, tiles: Sequence[Tile], key: FrameKey, *, void: Sequence[Void], known: DeviceMemory | None) -> Run:
        """Queue a chunk of tiles.

        Args:
            tiles: of the chunk.
            key: of its frame.
            void: void pixels of each tile's base.
            known: features of the chunk that were primed.

        Raises:
            TileError: a value of a series that is no number.
            BackendError: the device failed.
        """
        frame = self.frame(key)
        lane = self._lanes[self._next_lane]
        lane.done.synchronize()  # what it held before is on the device
        self._next_lane = 1 - self._next_lane
        self._bring(tiles, frame, void=void, lane=lane)
        cuda = self._device.cuda
        if known is not None and frame.plan.known_bytes:
            cuda.memcpy_dtod_async(frame.address("known"), known.address, frame.plan.known_bytes, self.compute)
        frame.run()
        for block, memory in (("output", lane.maps), ("counts", lane.counts)):
            size = frame.plan.layouts[block].nbytes
            if size:
                cuda.memcpy_dtoh_async(memory[:size], frame.address(block), self.compute)
        lane.done.record(self.compute)
        return Run(frame, len(tiles), lane)

    def drain(self) -> None:
        """Wait for everything that was queued."""
        self._copy.synchronize()
        self.compute.synchronize()

    def close(self) -> None:
        """Give everything back."""
        for frame in self._frames.values():
            frame.close()
        self._frames.clear()
        for lane in self._lanes:
            lane.close()
        self._release_memory()
        self.compute = self._copy = self._staging_free = None

    def _release_memory(self) -> None:
        while self._memory:
            self._memory.pop().release()

    def _bring(self, tiles: Sequence[Tile], frame: Frame, *, void: Sequence[Void], lane: _Lane) -> None:
        """Bring digital numbers from the host to a frame's input, by way of the staging memory."""
        size = frame.plan.layouts["input"].nbytes
        if not size:
            return
        cuda = self._device.cuda
        stage(tiles, self._network.manifest, plan=frame.plan, void=void, memory=lane.arrived)
        self._copy.wait_for_event(self._staging_free)
        cuda.memcpy_htod_async(self._staging.address, lane.arrived[:size], self._copy)
        lane.copied.record(self._copy)
        self.compute.wait_for_event(lane.copied)
        cuda.memcpy_dtod_async(frame.address("input"), self._staging.address, size, self.compute)
        self._staging_free.record(self.compute)
        self._bring_device_images(tiles, frame)

    def _bring_device_images(self, tiles: Sequence[Tile], frame: Frame) -> None:
        images = device_images(tiles)
        if any(array.stream is not None for _, _, array in images):
            self._device.cuda.Context.synchronize()  # their makers may not be done
        for index, name, array in images:
            if array.ordinal not in (None, self._device.ordinal):
                here = f"cuda:{self._device.ordinal}"
                raise TileError(f"{name} lies on cuda:{array.ordinal}, and the engine runs on {here}; copy it there")
            slot = frame.plan.layouts["input"][f"{name}.pixels"]
            start = frame.address("input") + slot.offset + index * (slot.nbytes // slot.shape[0])
            self._device.cuda.memcpy_dtod_async(start, array.address, array.nbytes, self.compute)

    def _allocate(self, nbytes: int) -> DeviceMemory:
        self._memory.append(self._device.allocate(nbytes))
        return self._memory[-1]


def _rest_bytes(network: BuiltNetwork) -> int:
    """What a frame may hold beyond the largest: the sum of primed modalities, unused because others arrived."""
    layout = Layout()
    for level, shape in enumerate(network.levels(network.manifest.base)):
        layout.add(f"level{level}", (network.payload.batches[-1], *shape), network.short)
    return layout.nbytes


def _largest_keys(network: BuiltNetwork) -> list[FrameKey]:
    """Frames of which one needs as much of every block as any frame can: all given, all known, and to prime."""
    manifest, payload = network.manifest, network.payload
    names = tuple(modality.name for modality in manifest.modalities)
    batch = payload.batches[-1]
    dates = tuple((m.name, payload.dates[-1]) for m in manifest.modalities if m.kind == "series")
    keys = [FrameKey(batch, dates, names, (), True, None)]
    for grid in _GRIDS:
        keys.append(FrameKey(batch, dates, names, (), True, grid))
        keys.append(FrameKey(batch, (), (), names, True, grid))
        base = (manifest.base,)
        keys.append(FrameKey(batch, tuple(d for d in dates if d[0] == manifest.base), base, network.others, True, grid))
    return keys
