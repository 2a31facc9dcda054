"""Rasters on disk for benchmarks: simulated countryside, its aerial image repeated until it is large enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.rasters import Scene
from uperfuse.engine.simulation import simulate, write_scene

__all__ = ["FULL_PX", "aerial_raster", "scene_of", "simulated_scene"]

FULL_PX = 10_000
"""Side of the raster that design promises speak of."""

_SEED = 640
_BLOCK_PX = 512
_SEEN_PX = 1024
_FACTS = MODALITIES["AERIAL_RGBI"]


def aerial_raster(path: Path, *, side_px: int, bands: Sequence[str] = _FACTS.usual) -> Path:
    """Write a tiled GeoTIFF without void pixels.

    Args:
        path: of the file.
        side_px: rows and columns.
        bands: of the file; the published networks' where left out.
    """
    scene = simulate(_SEED, shape_yx_px=(_SEEN_PX, _SEEN_PX))
    seen = np.asarray(scene.images["AERIAL_RGBI"][[_FACTS.bands.index(band) for band in bands]])
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
        for row in range(0, side_px, _SEEN_PX):
            for column in range(0, side_px, _SEEN_PX):
                height, width = min(_SEEN_PX, side_px - row), min(_SEEN_PX, side_px - column)
                raster.write(seen[:, :height, :width], window=Window(column, row, width, height))
        raster.descriptions = tuple(bands)
    return path


def scene_of(path: Path) -> Scene:
    """A scene of one aerial raster."""
    return Scene.model_validate({"inputs": {"AERIAL_RGBI": {"path": str(path)}}})


def simulated_scene(
    folder: Path, manifest: Manifest, *, seed: int = _SEED, shape_yx_px: tuple[int, int] = (_SEEN_PX, _SEEN_PX)
) -> Scene:
    """Write simulated countryside with the sensors that a plan takes.

    Args:
        folder: of the files.
        manifest: of the plan.
        seed: another one is another place.
        shape_yx_px: rows and columns of the aerial image.
    """
    written = Scene.from_yaml(write_scene(simulate(seed, shape_yx_px=shape_yx_px), folder))
    known = {modality.name for modality in manifest.modalities}
    return Scene(inputs={name: source for name, source in written.inputs.items() if name in known})
