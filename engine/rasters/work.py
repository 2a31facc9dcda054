"""The work of mapping one scene, laid out: where its tiles lie, how they are read, what its maps are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import rasterio

from ..errors import RasterError
from ..plan.manifest import Manifest
from .area import Area
from .mosaic import Mosaic
from .reader import SceneReader
from .readers import Readers
from .run import FileState, files_of, settings_of
from .scene import Scene
from .seams import Seams
from .tile_reader import Reading, TileReader
from .tiling import Tiling, default_halo_px

__all__ = ["MapOptions", "Planned", "Work", "open_work"]

_GDAL_CACHE_BYTES = 256 * 2**20
_BATCH_PIXELS = 4 * 512 * 512
_LARGEST_BATCH = 64


class Planned(Protocol):
    """What maps depend on, of whatever predicts them: an `Engine`, or a cluster of them."""

    @property
    def manifest(self) -> Manifest:
        """Of the plan."""
        ...

    @property
    def plan_hash(self) -> str:
        """Identity of the plan."""
        ...

    @property
    def device(self) -> str:
        """What runs the plan."""
        ...

    @property
    def precision(self) -> str:
        """Precision that it computes in."""
        ...


@dataclass(frozen=True)
class MapOptions:
    """How a scene is mapped; see `predict_raster`."""

    halo_px: int | None = None
    blend_px: int = 0
    batch: int | None = None
    area: Path | None = None
    confidence: bool = True
    probabilities: bool = False
    readers: int | None = 1
    memory_bytes: int | None = None
    keep_going: bool = False
    allow_ungeoreferenced: bool = False

    @property
    def logits(self) -> bool:
        """Whether maps need logits, beside labels and confidence."""
        return self.probabilities or self.blend_px > 0

    @property
    def gdal_cache_bytes(self) -> int:
        """Blocks of the rasters that GDAL keeps: an eighth of a small budget."""
        if self.memory_bytes is None:
            return _GDAL_CACHE_BYTES
        return min(_GDAL_CACHE_BYTES, self.memory_bytes // 8)

    @property
    def first_readers(self) -> int | None:
        """Number of readers; None where it may be chosen on the way, which a budget of memory forbids."""
        return 1 if self.readers is None and self.memory_bytes is not None else self.readers

    def halo_of(self, tile_px: int) -> int:
        """Rim of a tile of this side that only gives context."""
        return default_halo_px(tile_px) if self.halo_px is None else self.halo_px

    def batch_of(self, tile_px: int) -> int:
        """Tiles predicted at a time.

        Raises:
            RasterError: less than one is asked for.
        """
        if self.batch is None:
            return max(1, min(_LARGEST_BATCH, _BATCH_PIXELS // tile_px**2))
        if self.batch < 1:
            raise RasterError(f"batch of {self.batch} tiles, expected at least 1; leave it out for the usual one")
        return self.batch


@dataclass(frozen=True)
class Work:
    """A scene whose rasters are open.

    Attributes:
        manifest: of the plan.
        reader: of the rasters.
        readers: read the tiles.
        tiling: of the map.
        mosaic: of the maps.
        batch: tiles predicted at a time.
        options: how it is mapped.
        settings: what the maps depend on; see `settings_of`.
    """

    manifest: Manifest
    reader: SceneReader
    readers: Readers
    tiling: Tiling
    mosaic: Mosaic
    batch: int
    options: MapOptions
    settings: dict[str, str]


@contextmanager
def open_work(
    planned: Planned, scene: Scene, out: Path, options: MapOptions, *, report: Callable[[str], None]
) -> Iterator[Work]:
    """Open the rasters of a scene and lay out its tiles.

    Args:
        planned: what is to predict.
        scene: which rasters.
        out: folder of the maps.
        options: how it is mapped.
        report: is told how the rasters are understood.

    Raises:
        RasterError: a raster is missing, unreadable, elsewhere or not what the plan takes.
    """
    manifest = planned.manifest
    batch = options.batch_of(manifest.base_px)
    halo_px = options.halo_of(manifest.base_px)
    scene = scene.absolute()
    files = {path: FileState.of(path) for path in files_of(scene)}
    with (
        rasterio.Env(GDAL_CACHEMAX=options.gdal_cache_bytes),
        SceneReader(manifest, scene, allow_ungeoreferenced=options.allow_ungeoreferenced) as reader,
    ):
        for sentence in reader.messages:
            report(sentence)
        tiling = Tiling(reader.grid.shape_yx, tile_px=manifest.base_px, halo_px=halo_px)
        area = Area(options.area, grid=reader.grid) if options.area is not None else None
        mosaic = Mosaic(
            out,
            stem=scene.inputs[manifest.base].path.stem,
            manifest=manifest,
            plan_hash=planned.plan_hash,
            grid=reader.grid,
            seams=Seams(tiling, blend_px=options.blend_px),
            confidence=options.confidence,
            probabilities=options.probabilities,
        )
        settings = settings_of(
            plan=planned.plan_hash,
            device=planned.device,
            precision=planned.precision,
            scene=scene,
            files=files,
            grid=reader.grid,
            tiling=tiling,
            blend_px=options.blend_px,
            maps=mosaic.bands,
            area=area.content if area else None,
        )
        reading = Reading(
            manifest=manifest,
            scene=scene,
            files=tuple(files.values()),
            tiling=tiling,
            area=area,
            keep_going=options.keep_going,
            allow_ungeoreferenced=options.allow_ungeoreferenced,
        )
        with Readers(
            options.first_readers,
            reader=TileReader(reader, reading),
            reading=reading,
            cache_bytes=options.gdal_cache_bytes,
        ) as readers:
            for sentence in readers.messages:
                report(sentence)
            yield Work(manifest, reader, readers, tiling, mosaic, batch, options, settings)
