"""Which of a plan's tiles map a scene at the least cost within a memory budget.

The cost of a side is the work of all tiles that the raster takes, as the plan counts it: arithmetic, so that every
machine with the same budget comes to the same side. The memory of a side is measured (`engine.footprint`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import RasterError
from ..footprint import resident_bytes
from ..host_memory import available_host_bytes
from ..plan.manifest import Manifest
from ..plan.network import Modality
from ..plan.plan import Plan
from .reader import SceneReader
from .scene import Scene
from .tiling import Tiling
from .work import MapOptions

__all__ = ["TileChoice", "choose_tile", "parse_bytes", "work_bytes", "work_gflop"]

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_ITEM_BYTES = {"uint8": 1, "uint16": 2, "int16": 2, "float32": 4}
_DATES = 96
_READER_BYTES = 230 * 10**6
"""A process that reads: its libraries, and the least that GDAL keeps there."""
_WAITING = 16
"""Tiles that wait for the disk, at most, with their strips of probabilities."""
_PUBLISHING_BYTES = 150 * 10**6
"""GDAL's, for writing Cloud-Optimised GeoTIFFs: 55 to 85 MB were measured."""
_COPIES = 5
"""Batches on their way at once: two that are read ahead, one that gathers, one that is mapped, one that is kept."""

_Footprint = Callable[..., "int | None"]


@dataclass(frozen=True)
class TileChoice:
    """Tiles of a run.

    Attributes:
        tile_px: their side in pixels of the base modality.
        options: of the run, with a batch that fits.
        why: in a sentence; empty where there was nothing to choose.
    """

    tile_px: int
    options: MapOptions
    why: str


def choose_tile(
    plan: Plan,
    scene: Scene,
    options: MapOptions,
    *,
    tile_px: int | None = None,
    precision: str = "auto",
    threads: int | None = None,
    footprint: _Footprint = resident_bytes,
) -> TileChoice:
    """The side of tiles, and how many at a time, for mapping a scene on the processor.

    Args:
        plan: an open plan.
        scene: which rasters.
        options: how they are mapped, `memory_bytes` among them; without it, half of what the machine can give is the
            budget where there is something to choose.
        tile_px: side that is asked for; None chooses.
        precision: for `Engine.load`.
        threads: for `Engine.load`.
        footprint: measures memory; see `resident_bytes`.

    Raises:
        RasterError: nothing fits; or a raster is not what the plan takes.
        BackendError: memory cannot be measured.
    """
    sides = _sides(plan.manifest, precision=precision) if tile_px is None else (tile_px,)
    unknown = sides[0] not in plan.manifest.tile_sides_px  # which loading the plan refuses, and says what there is
    if unknown or (options.memory_bytes is None and len(sides) == 1):
        return TileChoice(sides[0], options, "")
    budget = options.memory_bytes or available_host_bytes() // 2
    with SceneReader(plan.manifest, scene.absolute(), allow_ungeoreferenced=options.allow_ungeoreferenced) as reader:
        shape_yx = reader.grid.shape_yx
    costs = {side: work_gflop(plan.manifest.at(side), shape_yx, options=options) for side in sides}
    needs: dict[int, float] = {}
    for side in sorted(sides, key=lambda each: (costs[each], each)):
        manifest = plan.manifest.at(side)
        network = footprint(plan.path, plan.hash, tile_px=side, precision=precision, threads=threads)
        needs[side] = math.inf if network is None else network + work_bytes(manifest, options, batch=1)
        if network is not None and needs[side] <= budget:
            batch = options.batch or _largest_batch(manifest, options, room=budget - network)
            chosen = replace(options, batch=batch)
            return TileChoice(side, chosen, _why(side, needs[side], budget=budget, costs=costs, before=needs))
    side = min(needs, key=needs.__getitem__)
    raise RasterError(
        f"tiles of {side} px take {_gigabytes(needs[side])} of memory, and {_gigabytes(budget)} are "
        f"{'allowed' if options.memory_bytes else 'half of what this machine has free'}; allow more with --memory, "
        "or export the network for smaller tiles (--tile-px)"
    )


def _sides(manifest: Manifest, *, precision: str) -> tuple[int, ...]:
    """Sides to choose from: a plan that runs in 8 bits has that form for its own side alone."""
    if manifest.quantised is not None and precision in ("auto", "int8"):
        return (manifest.base_px,)
    return manifest.tile_sides_px


def work_gflop(manifest: Manifest, shape_yx: tuple[int, int], *, options: MapOptions) -> float:
    """Floating point operations, in billions, of all tiles of a raster of this shape (infinite where none fit)."""
    one = sum(segment.gflop for segment in manifest.segments if segment.role != "absent")
    halo_px = options.halo_of(manifest.base_px)
    if 2 * halo_px >= manifest.base_px:
        return math.inf
    return one * len(Tiling(shape_yx, tile_px=manifest.base_px, halo_px=halo_px))


def work_bytes(manifest: Manifest, options: MapOptions, *, batch: int) -> int:
    """Memory of a run beside the network's: batches on their way, blocks that GDAL keeps, writing, readers."""
    read = sum(_tile_bytes(modality) for modality in manifest.modalities)
    pixels = manifest.base_px**2
    classes = sum(len(task.classes) for task in manifest.tasks)
    # labels and confidence; logits as they come, and again in percent
    made = pixels * (2 * len(manifest.tasks) + (classes * 5 if options.logits else 0))
    count = options.first_readers or 1
    readers = count * _READER_BYTES if count > 1 else 0
    waiting = _WAITING * pixels * classes * 2 if options.blend_px else 0
    return _COPIES * batch * (read + made) + waiting + options.gdal_cache_bytes + _PUBLISHING_BYTES + readers


def parse_bytes(text: str) -> int:
    """A number of bytes such as "4GB" (4 x 1000^3) or "512 MiB" (512 x 1024^2).

    Raises:
        RasterError: it is none.

    Example:
        >>> parse_bytes("1.5 GB"), parse_bytes("2GiB")
        (1500000000, 2147483648)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, flags=re.IGNORECASE)
    if found is None or (found[3] and not found[2]):
        raise RasterError(f"memory is {text!r}, expected a number with a unit, such as 4GB or 512MiB; correct it")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _UNITS[found[2].lower()])


def _tile_bytes(modality: Modality) -> int:
    """Pixels of one tile as they are read, and whether each is void."""
    pixels = modality.tile_px**2 * (_DATES if modality.kind == "series" else 1)
    return pixels * (len(modality.bands) * _ITEM_BYTES[modality.dtype] + 1)


def _largest_batch(manifest: Manifest, options: MapOptions, *, room: int) -> int:
    """As many tiles at a time as usual, or as fit."""
    batch = options.batch_of(manifest.base_px)
    while batch > 1 and work_bytes(manifest, options, batch=batch) > room:
        batch -= 1
    return batch


def _why(side: int, need: float, *, budget: int, costs: dict[int, float], before: dict[int, float]) -> str:
    said = f"tiles of {side} px take about {_gigabytes(need)} of the {_gigabytes(budget)} that are allowed"
    dearer = [f"{costs[other] / costs[side]:.2f} x the work at {other} px" for other in costs if other != side]
    large = [f"{other} px would take {_gigabytes(bytes_)}" for other, bytes_ in before.items() if other != side]
    return "; ".join([said, *dearer, *large])


def _gigabytes(value: float) -> str:
    return "more than there is" if math.isinf(value) else f"{value / 1e9:.2f} GB"
