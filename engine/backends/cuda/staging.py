"""What arrives of a chunk of tiles, brought into the form of a frame's input block on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...classify import nearest
from ...device_array import DeviceArray
from ...plan.manifest import Manifest
from ...prepare import prepare_series
from ...series import date_bucket
from ...tiles import ImageTile, SeriesTile, Tile
from ..base import Grid
from .frame_plan import FrameKey, FramePlan
from .layout import Slot
from .memory import view

__all__ = ["device_images", "frame_key", "stage"]

Void = NDArray[np.bool_] | None


def frame_key(
    tiles: Sequence[Tile],
    manifest: Manifest,
    *,
    batch: int,
    buckets: Sequence[int],
    known: Sequence[str],
    void: Sequence[Void],
    grid: Grid | None,
) -> FrameKey:
    """What frame a chunk of tiles needs.

    Args:
        tiles: of the chunk; all hold the same modalities.
        manifest: of the plan.
        batch: tiles of the frame, as many as there are or more.
        buckets: numbers of dates that parts were built for.
        known: modalities that were primed.
        void: void pixels of each tile's base, as far as known.
        grid: of the maps; None to prime.

    Raises:
        TileError: more dates than any bucket holds.
    """
    given = tuple(modality.name for modality in manifest.modalities if modality.name in tiles[0])
    dates = []
    for name in given:
        series = [tile[name] for tile in tiles]
        counts = [len(record.pixels) for record in series if isinstance(record, SeriesTile)]
        if counts:
            dates.append((name, date_bucket(max(counts), buckets=buckets)))
    images = [record for tile in tiles for record in tile.values() if isinstance(record, ImageTile)]
    voided = any(mask is not None for mask in void) or any(record.void is not None for record in images)
    return FrameKey(batch, tuple(dates), given, tuple(known), voided, grid)


def stage(
    tiles: Sequence[Tile], manifest: Manifest, *, plan: FramePlan, void: Sequence[Void], memory: NDArray[np.uint8]
) -> None:
    """Write a chunk of tiles into host memory that has the form of the frame's input.

    Args:
        tiles: of the chunk.
        manifest: of the plan.
        plan: of the frame.
        void: void pixels of each tile's base.
        memory: bytes, at least as many as the input block has; places of tiles beyond the chunk become zero.

    Raises:
        TileError: NaN or infinite values at pixels of a series that are not void.
    """
    slots = plan.layouts["input"].slots
    if len(tiles) < plan.key.batch:
        memory[: plan.layouts["input"].nbytes] = 0
    buckets = dict(plan.key.dates)
    for index, tile in enumerate(tiles):
        for name, record in tile.items():
            if isinstance(record, ImageTile):
                _stage_image(record, name, slots=slots, index=index, memory=memory)
            else:
                modality = manifest.modality(name)
                pixels, days, mask = prepare_series(record, modality, buckets=(buckets[name],))
                arrays = {"pixels": pixels, "days": days, "mask": mask, "real": mask}
                for what, values in arrays.items():
                    slot = slots.get(f"{name}.{what}")
                    if slot is not None:
                        view(memory, slot)[index] = values[0]
        if "void" in slots:
            mask_of_map = void[index]
            px = slots["void"].shape[-1]
            view(memory, slots["void"])[index] = 0 if mask_of_map is None else nearest(mask_of_map, px)


def device_images(tiles: Sequence[Tile]) -> list[tuple[int, str, DeviceArray]]:
    """Images of a chunk that lie on the device already: place in the batch, modality, array."""
    return [
        (index, name, record.pixels)
        for index, tile in enumerate(tiles)
        for name, record in tile.items()
        if isinstance(record, ImageTile) and isinstance(record.pixels, DeviceArray)
    ]


def _stage_image(
    record: ImageTile, name: str, *, slots: dict[str, Slot], index: int, memory: NDArray[np.uint8]
) -> None:
    if not isinstance(record.pixels, DeviceArray):
        view(memory, slots[f"{name}.pixels"])[index] = record.pixels
    if f"{name}.void" in slots:
        view(memory, slots[f"{name}.void"])[index] = 0 if record.void is None else record.void
