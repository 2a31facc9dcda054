"""Aerial rasters on disk for benchmarks: simulated countryside, repeated until it is large enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.rasters import Scene
from uperfuse.engine.simulation import simulate

__all__ = ["FULL_PX", "aerial_raster", "scene_of"]

FULL_PX = 10_000
"""Side of the raster that design promises speak of."""

_SEED = 640
_BLOCK_PX = 512
_FACTS = MODALITIES["AERIAL_RGBI"]


def aerial_raster(path: Path, *, side_px: int, seen_px: int = 1024) -> Path:
    """Write a tiled GeoTIFF of the published networks' bands (NIR, R, G), without void pixels.

    Args:
        path: of the file.
        side_px: rows and columns.
        seen_px: of the simulated place that is repeated.
    """
    scene = simulate(_SEED, shape_yx_px=(seen_px, seen_px))
    bands = [_FACTS.bands.index(band) for band in _FACTS.usual]
    seen = np.asarray(scene.images["AERIAL_RGBI"][bands])
    profile = {
        "driver": "GTiff",
        "count": len(bands),
        "height": side_px,
        "width": side_px,
        "dtype": "uint8",
        "crs": "EPSG:2154",
        "transform": rasterio.Affine(_FACTS.gsd_m, 0.0, 700_000.0, 0.0, -_FACTS.gsd_m, 6_600_000.0),
        "tiled": True,
        "blockxsize": _BLOCK_PX,
        "blockysize": _BLOCK_PX,
        "compress": "deflate",
        "predictor": 2,
        "photometric": "MINISBLACK",
    }
    with rasterio.open(path, "w", **profile) as raster:
        for row in range(0, side_px, seen_px):
            for column in range(0, side_px, seen_px):
                height, width = min(seen_px, side_px - row), min(seen_px, side_px - column)
                raster.write(seen[:, :height, :width], window=Window(column, row, width, height))
        raster.descriptions = _FACTS.usual
    return path


def scene_of(path: Path) -> Scene:
    """A scene of one aerial raster."""
    return Scene.model_validate({"inputs": {"AERIAL_RGBI": {"path": str(path)}}})
