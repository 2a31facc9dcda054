"""Which reader reads which tiles, in which order: every tile once, and hardly a block twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from uperfuse.engine.rasters import Scene, Source, predict_raster
from uperfuse.engine.rasters.blocks import BlockLayout
from uperfuse.engine.rasters.grid import Grid
from uperfuse.engine.rasters.lanes import bytes_of_row, columns_that_fit, lanes
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.tiling import Tiling

from .formula import PLACE, FormulaEngine, aerial_manifest, write_raster

calmly = settings(deadline=None)  # the machine may be busy
BLOCK_PX = 64
SHAPE = (420, 1300)
TILING = Tiling(SHAPE, tile_px=64, halo_px=8)


@calmly
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.integers(1, 9),
    st.booleans(),
    st.integers(1, 30),
    st.randoms(use_true_random=False),
)
def test_lanes_hold_every_tile_once_and_are_bands(
    rows: int, columns: int, count: int, by_rows: bool, stripe: int, chosen: random.Random
) -> None:
    tiling = Tiling((rows, columns), tile_px=64, halo_px=8)
    tiles = sorted(chosen.sample(range(len(tiling)), chosen.randint(0, len(tiling))))
    split = lanes(tiling, tiles, count=count, by_rows=by_rows, columns=stripe)
    assert sorted(tile for lane in split for tile in lane) == tiles
    assert [] not in split
    assert len(split) <= count
    across = 0 if by_rows or tiling.columns < count else 1
    bands = [{divmod(tile, tiling.columns)[across] for tile in lane} for lane in split]
    assert all(max(one) < min(other) for one, other in pairwise(bands))
    longest = max(Counter(divmod(tile, tiling.columns)[across] for tile in tiles).values(), default=0)
    assert all(len(lane) <= len(tiles) / count + longest for lane in split)
    for lane in split:  # within a stripe row by row, and stripes from left to right
        first = min(tile % tiling.columns for tile in lane)
        order = [
            (0 if by_rows else (tile % tiling.columns - first) // stripe, *divmod(tile, tiling.columns))
            for tile in lane
        ]
        assert order == sorted(order)


def grid(rows: int, columns: int) -> Grid:
    return Grid(Path("a.tif"), rasterio.CRS.from_epsg(2154), PLACE, (rows, columns))


@calmly
@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.data(),
)
def test_bytes_of_blocks_are_no_fewer_than_any_rectangle_touches(
    shape: tuple[int, int], block: tuple[int, int], drawn: st.DataObject
) -> None:
    layout = BlockLayout(grid(*shape), block, 3)
    sides = [drawn.draw(st.integers(1, whole)) for whole in shape]
    corner = [drawn.draw(st.integers(0, whole - side)) for whole, side in zip(shape, sides, strict=True)]
    touched = 3
    for start, side, size in zip(corner, sides, block, strict=True):
        touched *= ((start + side - 1) // size - start // size + 1) * size
    assert touched <= layout.bytes_around(*sides)


def test_a_stripe_is_as_wide_as_what_is_kept_allows() -> None:
    base = grid(10_000, 100_000)
    tiling = Tiling(base.shape_yx, tile_px=512, halo_px=64)
    blocks = BlockLayout(base, (512, 512), 3)
    for cache_mb in (2, 20, 200, 2000):
        columns = columns_that_fit([blocks], tiling=tiling, base=base, cache_bytes=cache_mb * 2**20)
        assert bytes_of_row(blocks, columns, tiling=tiling, base=base) <= cache_mb * 2**20 or columns == 1
        assert columns == tiling.columns or (
            bytes_of_row(blocks, columns + 1, tiling=tiling, base=base) > cache_mb * 2**20
        )
    assert columns == tiling.columns
    # A series whose pixels are fifty times as large: its blocks reach far beyond a tile.
    far = Grid(Path("s2.tif"), base.crs, PLACE @ rasterio.Affine.scale(50), (200, 2000))
    series = BlockLayout(far, (256, 256), 1220)
    assert bytes_of_row(series, 1, tiling=tiling, base=base) == 200 / 200 * 256 * 2 * 256 * 1220
    elsewhere = Grid(Path("s2.tif"), base.crs, rasterio.Affine(10, 0, 1e5, 0, -10, 6e6), (200, 2000))
    assert bytes_of_row(BlockLayout(elsewhere, (256, 256), 1220), 1, tiling=tiling, base=base) == 0


@pytest.fixture(scope="module")
def ortho(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = np.random.default_rng(0).integers(1, 255, (3, *SHAPE)).astype(np.uint8)
    layout = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "compress": "DEFLATE"}
    return write_raster(tmp_path_factory.mktemp("lanes") / "ortho.tif", values, photometric="RGB", **layout)


@pytest.fixture
def decoded(ortho: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """How often GDAL has fetched each block from the file, by its place in it."""

    class Counting(FileIO):
        def read(self, size: int = -1) -> bytes:
            if self.tell() in offsets:
                fetched[self.tell()] += 1
            return super().read(size)

    def open_counting(path: Path) -> Any:
        return rasterio.open(path, opener=lambda name, mode="r", **_: Counting(name, "r"))

    with rasterio.open(ortho) as dataset:
        blocks = [(x, y) for y in range(-(-SHAPE[0] // BLOCK_PX)) for x in range(-(-SHAPE[1] // BLOCK_PX))]
        offsets = {int(dataset.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=1)) for x, y in blocks}
    fetched: Counter[int] = Counter()
    monkeypatch.setattr("uperfuse.engine.rasters.source.open_raster", open_counting)
    yield fetched
    assert fetched.keys() == offsets


def read_lanes(ortho: Path, split: Sequence[Sequence[int]], *, cache_bytes: int) -> None:
    """Read as so many readers do, one after the other."""
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=ortho)})
    for lane in split:
        with rasterio.Env(GDAL_CACHEMAX=cache_bytes), SceneReader(aerial_manifest(), scene) as reader:
            for tile in lane:
                reader.read(TILING[tile])


BLOCKS = -(-SHAPE[0] // BLOCK_PX) * -(-SHAPE[1] // BLOCK_PX)
ROW_BYTES = -(-SHAPE[1] // BLOCK_PX) * BLOCK_PX**2 * 3


def test_one_reader_decodes_no_block_twice(ortho: Path, decoded: Counter[int]) -> None:
    read_lanes(ortho, [range(len(TILING))], cache_bytes=256 * 2**20)
    assert set(decoded.values()) == {1}


def test_stripes_save_what_a_small_cache_loses(ortho: Path, decoded: Counter[int]) -> None:
    small = ROW_BYTES
    read_lanes(ortho, [range(len(TILING))], cache_bytes=small)
    row_by_row = decoded.total()
    decoded.clear()
    with SceneReader(aerial_manifest(), Scene(inputs={"AERIAL_RGBI": Source(path=ortho)})) as reader:
        columns = columns_that_fit(reader.layouts, tiling=TILING, base=reader.grid, cache_bytes=small)
    decoded.clear()
    assert 2 < columns < TILING.columns / 2
    split = lanes(TILING, range(len(TILING)), count=1, by_rows=False, columns=columns)
    read_lanes(ortho, split, cache_bytes=small)
    stripes = -(-TILING.columns // columns)
    assert decoded.total() <= BLOCKS + 2 * (stripes - 1) * BLOCKS / -(-SHAPE[1] // BLOCK_PX)
    assert decoded.total() < 0.8 * row_by_row


@pytest.mark.parametrize("count", [2, 4])
def test_several_readers_share_the_blocks_between_their_lanes_alone(
    ortho: Path, decoded: Counter[int], count: int
) -> None:
    split = lanes(TILING, range(len(TILING)), count=count, by_rows=False, columns=TILING.columns)
    assert len(split) == count
    read_lanes(ortho, split, cache_bytes=256 * 2**20)
    rows = -(-SHAPE[0] // BLOCK_PX)
    assert decoded.total() <= BLOCKS + 2 * rows * (count - 1)
    assert max(decoded.values()) == 2


def test_blocks_too_large_to_be_kept_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(1, 255, (3, *SHAPE)).astype(np.uint8)
    one_block = {"tiled": True, "blockxsize": 1312, "blockysize": 432}
    path = write_raster(tmp_path / "ortho.tif", values, photometric="RGB", **one_block)
    monkeypatch.setattr("uperfuse.engine.rasters.work._GDAL_CACHE_BYTES", 2**20)
    said: list[str] = []
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=path)})
    summary = predict_raster(FormulaEngine(aerial_manifest()), scene, tmp_path / "out", report=said.append)
    expected = "ortho.tif: a tile needs blocks of 1 MB and 1 MB are kept between tiles; written anew in smaller blocks"
    assert any(sentence.startswith(expected) for sentence in said)
    assert any(sentence.startswith(expected) for sentence in summary.messages)
