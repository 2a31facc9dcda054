"""Steps, a tile, a frame, a read and a load: `pytest --benchmark`, with all of pytest-benchmark's options.

Every case compares its result with an obvious one before it is timed: what is wrong gets no time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from torch.nn import functional as F

from uperfuse.engine import Engine, _native
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.backends.cpu.graphs import level_shapes
from uperfuse.engine.backends.cpu.segments import CpuSegments
from uperfuse.engine.cores import usable_cores
from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.plan.plan import Plan
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.tiling import Tiling
from uperfuse.engine.resize import axis_resize

from ..rasters import aerial_raster, scene_of

_BASE, _TASK = "AERIAL_RGBI", "AERIAL_LABEL-COSIA"
_PX, _QUARTER_PX, _CLASSES = 512, 128, 19


def test_prepare(benchmark: Any) -> None:
    """512 px, four bands of bytes to normalised float32."""
    facts = MODALITIES[_BASE]
    mean, std = (np.array([facts.statistics[band][place] for band in facts.bands], np.float32) for place in (0, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (4, _PX, _PX), np.uint8)
    out = np.empty(pixels.shape, np.float32)

    def prepare() -> int:
        broken: int = _native.prepare(
            pixels, out=out, band=[0, 1, 2, 3], minus=[-1] * 4, mean=list(mean), std=list(std), threads=usable_cores()
        )
        return broken

    assert prepare() == 0
    np.testing.assert_allclose(out, (pixels - mean[:, None, None]) / std[:, None, None], rtol=1e-5, atol=1e-6)
    benchmark(prepare)


def test_classify(benchmark: Any) -> None:
    """19 classes at 128 px to labels and confidence at 512 px."""
    logits = np.random.default_rng(0).normal(0, 4, (_CLASSES, _QUARTER_PX, _QUARTER_PX)).astype(np.float32)
    axis = axis_resize(_QUARTER_PX, steps=[(_PX, True)])
    out = (np.empty((_PX, _PX), np.uint8), np.empty((_PX, _PX), np.uint8))

    def classify() -> None:
        _native.classify(logits, rows=axis, columns=axis, out=out, threads=usable_cores())

    classify()
    whole = F.interpolate(torch.from_numpy(logits)[None], scale_factor=4, mode="bilinear", align_corners=True)
    confidence, labels = torch.softmax(whole, dim=1).max(dim=1)
    assert (out[0] == labels[0].numpy()).mean() >= 0.9999
    assert np.abs(out[1] - 100 * confidence[0].numpy()).max() <= 1
    benchmark(classify)


def test_pyramid_fusion(benchmark: Any, small_plan: Path) -> None:
    """Pyramids of the six modalities beside the aerial image, enlarged and added, as the small plan has them."""
    rng = np.random.default_rng(0)
    with Plan.open(small_plan) as plan:
        segments = CpuSegments(plan, precision="float32", threads=None)
        manifest = plan.manifest
        pyramids = {
            modality.name: tuple(rng.normal(0, 1, shape).astype(np.float32) for shape in shapes)
            for modality in manifest.modalities
            if modality.name != _BASE
            for shapes in [level_shapes(manifest, modality.name)]
        }
        sizes = [shape[-2:] for shape in level_shapes(manifest, _BASE)]
        try:
            with segments.session() as session:
                for level, found in enumerate(session.fuse(pyramids)):
                    maps = (torch.from_numpy(pyramid[level]) for pyramid in pyramids.values())
                    resized = [F.interpolate(each, size=sizes[level], mode="bilinear") for each in maps]
                    assert relative_error(np.array(found), torch.stack(resized).sum(0).numpy()) <= 1e-4
                benchmark(session.fuse, pyramids)
        finally:
            segments.close()


def test_tile(benchmark: Any, engine: Engine, small_plan: Path, tiles: dict[str, Any]) -> None:
    """A tile with all seven modalities, raw numbers to maps of both tasks."""
    with Engine.load(small_plan, device="cpu", precision="float32") as exact:
        truth = exact.predict(tiles).labels
    for task, labels in engine.predict(tiles).labels.items():
        assert (labels == truth[task]).mean() >= 0.95, f"{task} is another map than in float32"
    benchmark(engine.predict, tiles)


def test_primed_frame(benchmark: Any, engine: Engine, tiles: dict[str, Any]) -> None:
    """The aerial image alone, the six others primed."""
    area = engine.prime({name: values for name, values in tiles.items() if name != _BASE})
    frame = {_BASE: tiles[_BASE]}
    whole = engine.predict(tiles).labels
    for task, labels in area.predict(frame).labels.items():
        np.testing.assert_array_equal(labels, whole[task])
    benchmark(area.predict, frame)


@pytest.fixture(scope="session")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An aerial raster of several tiles."""
    return aerial_raster(tmp_path_factory.mktemp("rasters") / "aerial.tif", side_px=1500, bands=MODALITIES[_BASE].bands)


def test_read_tile(benchmark: Any, engine: Engine, raster: Path) -> None:
    """One tile of a compressed GeoTIFF."""
    with SceneReader(engine.manifest, scene_of(raster)) as reader, rasterio.open(raster) as file:
        tiling = Tiling(reader.grid.shape_yx, tile_px=_PX, halo_px=64)
        place = tiling[len(tiling) // 2]
        found = reader.read(place)
        assert found is not None
        rows, columns = place.rows.start, place.columns.start
        window = rasterio.windows.Window(columns, rows, _PX, _PX)
        np.testing.assert_array_equal(found.tiles[_BASE], file.read(window=window))
        benchmark(reader.read, place)


def test_load(benchmark: Any, small_plan: Path, tiles: dict[str, Any], engine: Engine) -> None:
    """The small plan, which this machine has seen before."""
    truth = engine.predict(tiles).labels[_TASK]
    with Engine.load(small_plan, device="cpu") as loaded:
        np.testing.assert_array_equal(loaded.predict(tiles).labels[_TASK], truth)
    benchmark.pedantic(lambda: Engine.load(small_plan, device="cpu").close(), rounds=5, warmup_rounds=1)
