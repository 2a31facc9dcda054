"""The CUDA back end: chunks of tiles through frames, two of them under way at a time."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...classify import overflowed
from ...device_array import DeviceArray
from ...errors import BackendError
from ...plan.manifest import Manifest
from ...prediction import Prediction
from ...prepare import not_finite
from ...resize import axis_resize, resize
from ...tiles import ImageTile, Tile
from ..base import Grid, Residence
from .built_network import BuiltNetwork
from .driver import Device, DeviceMemory, forget_frames
from .frame_plan import FrameKey
from .known import CudaKnown, KnownChunk
from .resources import Resources
from .session import CudaSession, Run
from .staging import Void

__all__ = ["CudaBackend"]


class CudaBackend:
    """A plan on a GPU; see `Backend`.

    One thread at a time uses the GPU, which works on one thing at a time anyway; others wait. Memory is given back when
    the back end is closed or collected.

    Args:
        resources: everything on the GPU that belongs to the plan, loaded; taken over.
        network: what runs.
        reasons: what runs, where and why.
    """

    def __init__(self, resources: Resources, network: BuiltNetwork, *, reasons: tuple[str, ...]) -> None:
        self._resources = resources
        self._network = network
        self._manifest: Manifest = network.manifest
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._reasons = reasons
        self._finalizer = weakref.finalize(self, resources.close)
        self.device = f"cuda:{resources.device.ordinal}"
        self.precision: str = network.payload.precision
        self.threads = 1

    @property
    def seconds(self) -> dict[str, float]:
        """See `Backend.seconds`; a graph is one launch, and does not tell its stages apart."""
        return {}

    @property
    def reasons(self) -> tuple[str, ...]:
        """What runs, where and why, a line each."""
        session = self._resources.session
        return (*self._reasons, *(session.reasons if session else ()))

    def predict(
        self, tiles: Sequence[Tile], *, known: CudaKnown | None, logits: bool, grid: Grid, residence: Residence
    ) -> Prediction:
        """See `Backend.predict`."""
        with self._session() as session:
            px = _map_px(self._manifest, grid)
            maps = _Maps(self._manifest, len(tiles), px=px, device=self._resources.device, residence=residence)
            full: dict[str, list[NDArray[np.float32]]] = {task.name: [] for task in self._manifest.tasks if logits}
            under_way: list[tuple[int, Run]] = []
            for start, chunk, before in self._chunks(tiles, known):
                void = [_void_of(tile, self._manifest, each) for tile, each in zip(chunk, before[1], strict=True)]
                names = known.modalities if known else ()
                key = session.key(chunk, known=names, void=void, grid=grid, batch=before[0])
                run = session.start(chunk, key, void=void, known=before[2])
                if residence == "device":
                    maps.copy_on_device(run, start, session)
                under_way.append((start, run))
                if logits:
                    for task, values in full.items():
                        values.append(self._logits(run, task, grid))
                while len(under_way) > 1 or (under_way and logits):
                    maps.collect(*under_way.pop(0), manifest=self._manifest)
            for start, run in under_way:
                maps.collect(start, run, manifest=self._manifest)
            return maps.prediction({task: np.concatenate(values) for task, values in full.items()})

    def prime(self, tiles: Sequence[Tile]) -> CudaKnown:
        """See `Backend.prime`."""
        with self._session() as session:
            chunks = []
            for _, chunk, before in self._chunks(tiles, None):
                void = [_void_of(tile, self._manifest, None) for tile in chunk]
                key = session.key(chunk, known=(), void=void, grid=None, batch=before[0])
                run = session.start(chunk, key, void=void, known=None)
                size = run.frame.plan.layouts["features"].nbytes
                memory = self._resources.device.allocate(size)
                self._resources.device.cuda.memcpy_dtod_async(
                    memory.address, run.frame.address("features"), size, session.compute
                )
                session.drain()
                _check_counts(run, self._manifest)
                chunks.append(KnownChunk(key.batch, memory, tuple(void)))
            return CudaKnown(key.given, tuple(chunks))

    def warm_up(self, *, batch: int, dates: int) -> None:
        """See `Backend.warm_up`."""
        payload, manifest = self._network.payload, self._manifest
        if not 1 <= batch <= payload.batches[-1]:
            raise BackendError(
                f"warm_up for {batch} tiles at a time, and the plan was built for at most {payload.batches[-1]}; run "
                f"`uperfuse build` with --batch {batch}"
            )
        if payload.dates and dates > payload.dates[-1]:
            raise BackendError(
                f"warm_up for {dates} dates, and the plan was built for at most {payload.dates[-1]}; run "
                f"`uperfuse build` with --dates {dates}"
            )
        size = next(each for each in payload.batches if each >= batch)
        names = tuple(modality.name for modality in manifest.modalities)
        series = [modality.name for modality in manifest.modalities if modality.kind == "series"]
        with self._session() as session:
            for voided in (False, True):
                padded = tuple((name, next(each for each in payload.dates if each >= dates)) for name in series)
                session.frame(FrameKey(size, padded, names, (), voided, "label"))

    def close(self) -> None:
        """Give everything on the GPU back; calls of other threads end first."""
        with self._lock:
            self._finalizer()

    @contextmanager
    def _session(self) -> Iterator[CudaSession]:
        """The session, for this thread alone, with the GPU's context current; nothing is under way afterwards."""
        if os.getpid() != self._process:
            raise BackendError(
                f"the engine was loaded by process {self._process} and does not work in a fork of it; load it in each "
                "process, or start processes with 'spawn'"
            )
        with self._lock:
            session = self._resources.session
            if session is None:
                raise BackendError("the engine is closed; load the plan again")
            with self._resources.device.current():
                self._resources.device.free_buried()
                try:
                    yield session
                except BaseException as error:
                    # host memory must not change under what is still being copied; a lost context copies nothing
                    with suppress(self._resources.device.cuda.Error):
                        session.drain()
                    forget_frames(error)
                    raise

    def _chunks(
        self, tiles: Sequence[Tile], known: CudaKnown | None
    ) -> Iterator[tuple[int, Sequence[Tile], tuple[int, tuple[Void, ...], DeviceMemory | None]]]:
        """Where each chunk starts, its tiles, and what is known of them: batch, void pixels, features."""
        start = 0
        if known is not None:
            for chunk in known.chunks:
                count = len(chunk.void)
                yield start, tiles[start : start + count], (chunk.batch, chunk.void, chunk.memory)
                start += count
            return
        batches = self._network.payload.batches
        while start < len(tiles):
            left = len(tiles) - start
            batch = next((each for each in batches if each >= left), batches[-1])
            count = min(left, batch)
            yield start, tiles[start : start + count], (batch, (None,) * count, None)
            start += count

    def _logits(self, run: Run, task: str, grid: Grid) -> NDArray[np.float32]:
        """Logits of a run at the size of the map."""
        manifest = self._manifest
        slot = run.frame.plan.layouts["work"][f"{task}.logits"]
        quarter = np.empty(slot.shape, np.float32)
        run.wait()
        self._resources.device.cuda.memcpy_dtoh(quarter, run.frame.address("work") + slot.offset)
        steps = [(step.px, step.align_corners) for step in manifest.resizes(grid=grid)]
        axis = axis_resize(manifest.logits_px, steps=steps)
        return resize(quarter[: run.tiles], rows=axis, columns=axis)


class _Maps:
    """Maps of a batch while chunks of them arrive."""

    def __init__(self, manifest: Manifest, tiles: int, *, px: int, device: Device, residence: Residence) -> None:
        self._shape = (tiles, px, px)
        self._device = device
        self._on_host: dict[str, NDArray[np.uint8]] = {}
        self._on_device: dict[str, DeviceArray] = {}
        self._tasks = [task.name for task in manifest.tasks]
        for task in self._tasks:
            for what in ("labels", "confidence"):
                if residence == "host":
                    self._on_host[f"{task}.{what}"] = np.empty(self._shape, np.uint8)
                else:
                    memory = device.allocate(tiles * px * px)
                    array = DeviceArray(memory.address, self._shape, np.dtype(np.uint8), memory, device.ordinal)
                    self._on_device[f"{task}.{what}"] = array

    def copy_on_device(self, run: Run, start: int, session: CudaSession) -> None:
        """Queue the copies of a run's maps to where the caller will find them."""
        for name, array in self._on_device.items():
            slot = run.frame.plan.layouts["output"][name]
            size = run.tiles * (slot.nbytes // slot.shape[0])
            to = array.address + start * (slot.nbytes // slot.shape[0])
            source = run.frame.address("output") + slot.offset
            self._device.cuda.memcpy_dtod_async(to, source, size, session.compute)

    def collect(self, start: int, run: Run, *, manifest: Manifest) -> None:
        """Take a run's maps from the host's side, once they are there."""
        run.wait()
        _check_counts(run, manifest)
        for name, array in self._on_host.items():
            array[start : start + run.tiles] = run.array("output", name)

    def prediction(self, logits: Mapping[str, NDArray[np.float32]]) -> Prediction:
        """What was collected."""
        if self._on_device:
            self._device.cuda.Context.synchronize()
        arrays: Mapping[str, Any] = self._on_device or self._on_host
        return Prediction(
            labels={task: arrays[f"{task}.labels"] for task in self._tasks},
            confidence={task: arrays[f"{task}.confidence"] for task in self._tasks},
            logits=logits,
        )


def _check_counts(run: Run, manifest: Manifest) -> None:
    """Refuse what a kernel counted as no number."""
    counts = run.frame.plan.layouts["counts"].slots
    for modality in manifest.modalities:
        name = f"{modality.name}.broken"
        if name in counts:
            broken = int(run.array("counts", name).sum())
            if broken:
                raise not_finite(modality, broken, run.tiles * len(modality.channels) * modality.tile_px**2)
    for task in manifest.tasks:
        name = f"{task.name}.broken"
        if name in counts:
            broken = int(run.array("counts", name).sum())
            if broken:
                raise overflowed(task.name, f"{broken} pixels have NaN or infinite logits")


def _map_px(manifest: Manifest, grid: Grid) -> int:
    steps = manifest.resizes(grid=grid)
    return steps[-1].px if steps else manifest.logits_px


def _void_of(tile: Tile, manifest: Manifest, before: Void) -> Void:
    base = tile.get(manifest.base)
    void = base.void if isinstance(base, ImageTile) else None
    return before if void is None else void
