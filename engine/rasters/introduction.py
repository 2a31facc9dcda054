"""What is checked and said once, before the first tile: which rasters there are and how they come together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..errors import RasterError
from ..plan.manifest import Manifest
from ..plan.network import Modality
from .align import lies_on_pixels
from .grid import Grid
from .scene import Scene
from .source import RasterSource
from .tiling import Tiling

__all__ = ["check_georeference", "check_mask", "check_names", "introduce"]

_OFF_SCALE = 1.25
_NEARLY_ALL = 0.9999


def check_names(manifest: Manifest, scene: Scene) -> None:
    """Refuse a scene whose modalities are not those of the plan.

    Raises:
        RasterError: names both lists.
    """
    names = [modality.name for modality in manifest.modalities]
    unknown = [name for name in scene.inputs if name not in names]
    if unknown:
        raise RasterError(
            f"the scene has {', '.join(unknown)}, the plan takes {', '.join(names)}; leave the others out"
        )
    missing = [
        modality.name
        for modality in manifest.modalities
        if modality.name not in scene.inputs and (not modality.may_be_absent or modality.name == manifest.base)
    ]
    if missing:
        raise RasterError(
            f"the scene has {', '.join(scene.inputs)}, the plan also needs {', '.join(missing)}; add the rasters, "
            "or use a plan that learnt to do without them"
        )


def check_georeference(rasters: Mapping[str, RasterSource], *, allowed: bool) -> None:
    """Refuse rasters that cannot be placed on the ground, but for a single one where that is `allowed`.

    Raises:
        RasterError: names the rasters without CRS and what the others have.
    """
    lost = [raster for raster in rasters.values() if raster.grid.crs is None]
    if not lost or (allowed and len(rasters) == 1):
        return
    files = ", ".join(str(raster.path) for raster in lost)
    if len(rasters) == 1:
        raise RasterError(
            f"{files} has no CRS and transform, expected a georeferenced raster; assign them with gdal_edit.py "
            "-a_srs ... -a_ullr ..., or map its bare pixels with --allow-ungeoreferenced"
        )
    others = [f"{raster.path} has {raster.grid.crs_name}" for raster in rasters.values() if raster.grid.crs is not None]
    raise RasterError(
        f"{files} has no CRS and transform, which are needed to lay several rasters over each other "
        f"({'; '.join(others) or 'none of them has'}); assign them with gdal_edit.py -a_srs ... -a_ullr ..."
    )


def check_mask(series: Grid, mask: Grid) -> None:
    """Refuse a mask that does not lie on its series.

    Raises:
        RasterError: names both rasters.
    """
    if series.crs is not None and mask.crs is not None:
        series.covered_by(mask)
    elif (series.crs, series.shape_yx) != (mask.crs, mask.shape_yx):
        raise RasterError(
            f"{mask.file} ({mask.crs_name}, {mask.shape_yx} pixels) cannot be laid on {series.file} "
            f"({series.crs_name}, {series.shape_yx} pixels); give both the same CRS, or both none and the same size"
        )


def introduce(manifest: Manifest, scene: Scene, rasters: Mapping[str, RasterSource]) -> Iterator[str]:
    """Say how each raster is understood and brought onto the base modality's grid.

    Raises:
        RasterError: a raster does not overlap the base.
    """
    base = manifest.modality(manifest.base)
    for modality in manifest.modalities:
        if modality.name not in rasters:
            yield f"{modality.name}: no raster given; mapped without it"
            continue
        raster = rasters[modality.name]
        yield from raster.messages
        if modality.filter is not None and scene.inputs[modality.name].mask is None:
            assert raster.dates is not None, "only a series has a filter"
            yield f"{modality.name}: no mask of snow and cloud given; all {len(raster.dates)} dates count as clear"
        if modality.name == base.name:
            yield from _scale(base, raster.grid)
        else:
            yield from _alignment(modality, raster.grid, base, rasters[base.name].grid)


def _scale(base: Modality, grid: Grid) -> Iterator[str]:
    size = grid.pixel_size()
    if size is None:
        yield f"{base.name}: {grid.file.name} has no CRS; the map is in its pixels, without coordinates and areas"
        return
    ratio = max(size.x_m, size.y_m) / base.gsd_m, base.gsd_m / min(size.x_m, size.y_m)
    if max(ratio) > _OFF_SCALE:
        yield (
            f"warning: {base.name}: pixels of {grid.file.name} are {size}, the network was trained at "
            f"{base.gsd_m:g} m; expect a worse map than the plan's accuracy says, or resample to {base.gsd_m:g} m first"
        )


def _alignment(modality: Modality, grid: Grid, base: Modality, base_grid: Grid) -> Iterator[str]:
    covered = base_grid.covered_by(grid)
    first = next(iter(Tiling(base_grid.shape_yx, tile_px=base.tile_px, halo_px=0)))
    square = base_grid.tile_transform(first, px=modality.tile_px)
    if not lies_on_pixels(grid, crs=base_grid.crs, transform=square, px=modality.tile_px):
        yield (
            f"{modality.name}: {grid.pixel_size()} pixels in {grid.crs_name} are resampled to {modality.tile_px} x "
            f"{modality.tile_px} per tile of {base.name} ({base.tile_px} px of {base_grid.pixel_size()} in "
            f"{base_grid.crs_name})"
        )
    if covered < _NEARLY_ALL:
        yield f"{modality.name}: covers {covered:.1%} of {base.name}; the rest is mapped with it void or absent"
