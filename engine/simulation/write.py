"""Scenes on disk: a GeoTIFF of every raster, dates as text, and a scene file that names them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray

from ..flairhub import MODALITIES
from .scene import MASK, SimulatedScene

__all__ = ["write_raster", "write_scene"]

_CRS = "EPSG:2154"


def write_scene(scene: SimulatedScene, folder: Path | str) -> Path:
    """Write all rasters of `scene` into `folder`, which is made if need be.

    Files are named after their modality or task. A band of a series is described as `20210114_B02`, and a file
    `<MODALITY>_dates.txt` holds one YYYYMMDD a line.

    Args:
        scene: what to write.
        folder: where.

    Returns:
        Path of `scene.yaml`, which maps each modality to its file, dates and mask.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    inputs: dict[str, dict[str, str]] = {}
    for name, image in scene.images.items():
        nodata = 0 if name == "AERIAL_RGBI" and scene.void.any() else None
        facts = MODALITIES[name]
        path = folder / f"{name}.tif"
        write_raster(path, image, origin_m=scene.origin_m, gsd_m=facts.gsd_m, bands=facts.bands, nodata=nodata)
        inputs[name] = {"path": f"{name}.tif"}
    for name, passes in scene.series.items():
        facts = MODALITIES[name]
        _write_series(scene, folder / f"{name}.tif", passes.values, passes.dates, facts.bands)
        text = "".join(f"{day}\n" for day in _compact(passes.dates))
        (folder / f"{name}_dates.txt").write_text(text, encoding="utf-8")
        inputs[name] = {"path": f"{name}.tif", "dates": f"{name}_dates.txt"}
    _write_series(scene, folder / f"{MASK}.tif", scene.masks, scene.series["SENTINEL2_TS"].dates, ("snow", "cloud"))
    inputs["SENTINEL2_TS"]["mask"] = f"{MASK}.tif"
    for task, label in scene.labels.items():
        nodata = 255 if scene.void.any() else None
        gsd_m = MODALITIES["AERIAL_RGBI"].gsd_m
        path = folder / f"{task}.tif"
        write_raster(path, label[None], origin_m=scene.origin_m, gsd_m=gsd_m, bands=(task,), nodata=nodata)
    path = folder / "scene.yaml"
    ordered = {name: inputs[name] for name in MODALITIES}
    path.write_text(yaml.safe_dump({"inputs": ordered}, sort_keys=False), encoding="utf-8")
    return path


def _compact(dates: NDArray[np.datetime64]) -> list[str]:
    return [str(day).replace("-", "") for day in dates]


def _write_series(
    scene: SimulatedScene,
    path: Path,
    values: NDArray[np.generic],
    dates: NDArray[np.datetime64],
    bands: tuple[str, ...],
) -> None:
    names = tuple(f"{day}_{band}" for day in _compact(dates) for band in bands)
    stacked = values.reshape(-1, *values.shape[-2:])
    write_raster(path, stacked, origin_m=scene.origin_m, gsd_m=MODALITIES["SENTINEL2_TS"].gsd_m, bands=names)


def write_raster(
    path: Path,
    values: NDArray[np.generic],
    *,
    origin_m: tuple[float, float],
    gsd_m: float,
    bands: tuple[str, ...],
    nodata: int | None = None,
) -> None:
    """Write one GeoTIFF in EPSG:2154.

    Args:
        path: where.
        values: [C, Y, X].
        origin_m: easting and northing of the north-west corner.
        gsd_m: pixel size in metres.
        bands: names of the bands.
        nodata: value of void pixels, if there are any.
    """
    count, height, width = values.shape
    east, north = origin_m
    # A block is at most 256 px and, as TIFF demands, a multiple of 16: small rasters get small blocks.
    block_y, block_x = (min(256, -(-size // 16) * 16) for size in (height, width))
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": values.dtype.name,
        "crs": _CRS,
        "transform": rasterio.Affine(gsd_m, 0.0, east, 0.0, -gsd_m, north),
        "nodata": nodata,
        "tiled": True,
        "blockysize": block_y,
        "blockxsize": block_x,
        "compress": "deflate",
        "predictor": 3 if values.dtype.kind == "f" else 2,
        "interleave": "band",
        # Left alone, GDAL takes the fourth band of an 8 bit image for transparency; it is infrared.
        "photometric": "RGB" if bands[:3] == ("R", "G", "B") else "MINISBLACK",
        "alpha": "NO",
    }
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(values)
        raster.descriptions = bands
