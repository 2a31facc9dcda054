"""All rasters of a scene, open together and read tile by tile on the base modality's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..flairhub import dates_key
from ..plan.manifest import Manifest
from ..plan.network import Modality
from .acquisitions import Clearness, choose_acquisitions
from .align import read_square
from .blocks import BlockLayout
from .grid import Grid
from .introduction import check_georeference, check_mask, check_names, introduce
from .scene import Scene
from .source import MaskRaster, Pixels, RasterSource, Readable
from .tiling import TilePlace

__all__ = ["SceneReader", "TileInputs"]

NOT_COVERED_ABSENT = "not covered; mapped without it"
NOT_COVERED_VOID = "not covered; entered as void"
SNOW_ALONE = "without a clear acquisition; those free of snow were used"
NO_ACQUISITION = "without an acquisition free of cloud or snow; entered without dates"
NOTHING_LEFT = "without a single usable acquisition of any sensor; left void"
_CLEARNESS = {Clearness.SNOW_ONLY: SNOW_ALONE, Clearness.NONE: NO_ACQUISITION}


@dataclass(frozen=True)
class TileInputs:
    """One tile as the engine takes it.

    Attributes:
        place: where it lies.
        tiles: modality -> [C, Y, X] or [T, C, Y, X], and for series their dates.
        voids: modality -> [Y, X] or [T, Y, X]; True where void.
        void: void pixels [Y, X] of the base modality: they stay void in the map.
        remarks: modality -> what the user should know of it in this tile, if anything.
    """

    place: TilePlace
    tiles: Mapping[str, NDArray[Any]]
    voids: Mapping[str, NDArray[np.bool_]]
    void: NDArray[np.bool_]
    remarks: Mapping[str, str]


@dataclass(frozen=True)
class _Record:
    """One modality of one tile; `pixels` None where the tile does without it."""

    pixels: Pixels | None
    dates: NDArray[np.datetime64] | None = None
    remark: str | None = None


class SceneReader:
    """The open rasters of a scene.

    Args:
        manifest: what the plan takes.
        scene: where it is.
        allow_ungeoreferenced: map a single raster without CRS in its own pixels.

    Attributes:
        messages: how the rasters are understood and brought together, for the user.

    Raises:
        RasterError: a raster is missing, unreadable, elsewhere, or not what the plan takes.
    """

    def __init__(self, manifest: Manifest, scene: Scene, *, allow_ungeoreferenced: bool = False) -> None:
        check_names(manifest, scene)
        self._base = manifest.modality(manifest.base)
        self._modalities = [modality for modality in manifest.modalities if modality.name in scene.inputs]
        self._rasters: dict[str, RasterSource] = {}
        self._masks: dict[str, MaskRaster] = {}
        try:
            for modality in self._modalities:
                self._open(modality, scene)
            check_georeference(self._rasters, allowed=allow_ungeoreferenced)
            self.messages = tuple(introduce(manifest, scene, self._rasters))
        except BaseException:  # whatever stops the opening, the files that are open are closed
            self.close()
            raise

    @property
    def grid(self) -> Grid:
        """The base modality's pixels, which are those of the map."""
        return self._rasters[self._base.name].grid

    @property
    def layouts(self) -> list[BlockLayout]:
        """How the rasters lie on the disk; the base modality's first."""
        others = [raster.layout for name, raster in self._rasters.items() if name != self._base.name]
        masks = [mask.layout for mask in self._masks.values()]
        return [self._rasters[self._base.name].layout, *others, *masks]

    def close(self) -> None:
        """Close all files."""
        for raster in self._rasters.values():
            raster.close()
        for mask in self._masks.values():
            mask.close()

    def reopen(self) -> None:
        """Open all files anew.

        Raises:
            RasterError: one is not there.
        """
        for raster in self._rasters.values():
            raster.reopen()
        for mask in self._masks.values():
            mask.reopen()

    def __enter__(self) -> SceneReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, place: TilePlace) -> TileInputs | None:
        """Read one tile; None where its core holds no valid pixel of the base modality."""
        base_pixels = self._square(self._rasters[self._base.name], self._base, place)
        void = base_pixels.unseen
        if void[place.core_in_tile_yx].all():
            return None
        records = {self._base.name: self._record(self._base, place, base_pixels)}
        for modality in self._modalities:
            if modality.name != self._base.name:
                pixels = self._square(self._rasters[modality.name], modality, place)
                records[modality.name] = self._record(modality, place, pixels)
        tiles: dict[str, NDArray[Any]] = {}
        voids: dict[str, NDArray[np.bool_]] = {}
        for name, record in records.items():
            if record.pixels is None:
                continue
            tiles[name], voids[name] = record.pixels.values, record.pixels.void
            if record.dates is None:
                tiles[name], voids[name] = record.pixels.values[0], record.pixels.void[0]
            else:
                tiles[dates_key(name)] = record.dates
        remarks = {name: record.remark for name, record in records.items() if record.remark is not None}
        if all(mask.all() for mask in voids.values()):  # so it is of a series without dates, too
            void = np.ones_like(void)
            remarks = {self._base.name: NOTHING_LEFT}
        return TileInputs(place, tiles, voids, void, remarks)

    def _open(self, modality: Modality, scene: Scene) -> None:
        source = scene.inputs[modality.name]
        raster = self._rasters[modality.name] = RasterSource(modality, source)
        if source.mask is not None:
            assert raster.dates is not None, "only a series has a mask"
            mask = self._masks[modality.name] = MaskRaster(source.mask, acquisitions=len(raster.dates))
            check_mask(raster.grid, mask.grid)

    def _square(self, raster: Readable, modality: Modality, place: TilePlace, *, nearest: bool = False) -> Pixels:
        transform = self.grid.tile_transform(place, px=modality.tile_px)
        return read_square(raster, crs=self.grid.crs, transform=transform, px=modality.tile_px, nearest=nearest)

    def _record(self, modality: Modality, place: TilePlace, pixels: Pixels) -> _Record:
        if pixels.void.all() and modality.may_be_absent:
            return _Record(None, remark=NOT_COVERED_ABSENT)
        remark = NOT_COVERED_VOID if pixels.void.all() else None
        dates = self._rasters[modality.name].dates
        if dates is None:
            return _Record(pixels, remark=remark)
        mask = self._masks.get(modality.name)
        snow_cloud = None if mask is None else self._square(mask, modality, place, nearest=True)
        chosen = choose_acquisitions(pixels, dates=dates, snow_cloud=snow_cloud, rule=modality.filter)
        return _Record(chosen.pixels, chosen.dates, remark or _CLEARNESS.get(chosen.clearness))
