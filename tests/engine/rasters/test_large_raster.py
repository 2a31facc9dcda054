"""Memory does not grow with the raster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from .formula import PLACE

SIDE_PX = 20_000
MEMORY_MB = 800  # the input has 400 MB, the two maps 800 MB

MAPPING = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.engine.rasters.formula import FormulaEngine, make_manifest, make_modality
from uperfuse.engine.rasters import Scene, Source, predict_raster
manifest = make_manifest(make_modality("AERIAL-RLT_PAN", tile_px=512, gsd_m=0.2))
scene = Scene(inputs={"AERIAL-RLT_PAN": Source(path=Path(sys.argv[2]))})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
summary = predict_raster(FormulaEngine(manifest, keep_calls=False), scene, sys.argv[3], halo_px=8, blend_px=8)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // 1024, summary.tiles, summary.void_tiles)
"""


def test_a_large_sparse_raster(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 0, "crs": "EPSG:2154", "transform": PLACE}
    with rasterio.open(
        tmp_path / "large.tif", "w", width=SIDE_PX, height=SIDE_PX, tiled=True, sparse_ok=True, **profile
    ) as dataset:
        for row, column in ((100, 300), (9_800, 15_000), (19_500, 2_000)):
            island = np.kron(rng.integers(1, 256, (40, 60)), np.ones((10, 10))).astype(np.uint8)
            dataset.write(island[None], window=Window(column, row, 600, 400))
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run(
        [sys.executable, "-c", MAPPING, str(root), str(tmp_path / "large.tif"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    grown_mb, tiles, void_tiles = (int(word) for word in run.stdout.split())
    assert grown_mb < MEMORY_MB
    assert tiles == 41**2
    assert 6 <= tiles - void_tiles <= 20
    (labels,) = (path for path in (tmp_path / "out").glob("*.tif") if "confidence" not in path.name)
    with rasterio.open(labels) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (dataset.read(1, window=Window(15_000, 9_800, 600, 400)) != 255).all()
        assert (dataset.read(1, window=Window(14_990, 9_800, 10, 400)) == 255).all()
