"""Whole rasters to maps: read ahead, predict in batches, write cores, publish at the end."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray

from ..errors import RasterError
from ..flairhub import dates_key
from ..plan.manifest import Manifest
from .mosaic import Mosaic, TileMap
from .progress import Advance, progress_bar
from .reader import SceneReader, TileInputs
from .scene import Scene
from .summary import MapSummary, Stopwatch, Tally
from .tiling import TilePlace, Tiling, default_halo_px

__all__ = ["Predictor", "predict_raster"]

_GDAL_CACHE_BYTES = 256 * 2**20
_BATCH_PIXELS = 4 * 512 * 512
_LARGEST_BATCH = 64


class Maps(Protocol):
    """What a predictor answers, per task: labels and confidence [B, Y, X], logits [B, K, Y, X] if asked for."""

    @property
    def labels(self) -> Mapping[str, NDArray[np.uint8]]: ...

    @property
    def confidence(self) -> Mapping[str, NDArray[np.uint8]]: ...

    @property
    def logits(self) -> Mapping[str, NDArray[np.float32]]: ...


class Predictor(Protocol):
    """What maps tiles: an `Engine`."""

    manifest: Manifest
    plan_hash: str

    def predict(
        self,
        tiles: Mapping[str, Any],
        *,
        voids: Mapping[str, Any] | None = None,
        logits: bool = False,
        grid: Literal["label", "base"] = "label",
    ) -> Maps:
        """Map a batch of tiles; see `Engine.predict`."""
        ...


def predict_raster(
    engine: Predictor,
    scene: Scene,
    out: str | os.PathLike[str],
    *,
    halo_px: int | None = None,
    batch: int | None = None,
    confidence: bool = True,
    probabilities: bool = False,
    overwrite: bool = False,
    allow_ungeoreferenced: bool = False,
    progress: bool = True,
    report: Callable[[str], None] | None = None,
) -> MapSummary:
    """Map the rasters of a scene on the pixels of its base modality, the plan's first image (or first series).

    The maps are Cloud-Optimised GeoTIFFs named after the base raster and the task. Files appear when all are complete.
    What the base does not show is void (255). The maps do not depend on `batch`, and memory not on the rasters' size.

    Args:
        engine: a loaded engine.
        scene: which rasters.
        out: folder of the maps.
        halo_px: rim of a tile that only gives context, in pixels of the base; None takes an eighth of the tile.
        batch: tiles predicted at a time; None takes as many as make about a million pixels.
        confidence: also write the largest probability in percent.
        probabilities: also write the probability of each class in percent.
        overwrite: replace maps that exist.
        allow_ungeoreferenced: map a single raster without CRS in its own pixels.
        progress: show a progress bar where standard error is a terminal.
        report: called with each sentence about the rasters and tiles as it is known.

    Raises:
        RasterError: a raster is missing, unreadable, elsewhere or not what the plan takes, or a map cannot be written.
    """
    manifest = engine.manifest
    tile_px = manifest.base_px
    batch = _batch_of(batch, tile_px)
    halo_px = default_halo_px(tile_px) if halo_px is None else halo_px
    watch = Stopwatch()
    with (
        rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES),
        SceneReader(manifest, scene, allow_ungeoreferenced=allow_ungeoreferenced) as reader,
    ):
        _say(reader.messages, report)
        grid = reader.grid
        tiling = Tiling(grid.shape_yx, tile_px=tile_px, halo_px=halo_px)
        tally = Tally(manifest, grid)
        with Mosaic(
            Path(out),
            stem=scene.inputs[manifest.base].path.stem,
            manifest=manifest,
            plan_hash=engine.plan_hash,
            grid=grid,
            confidence=confidence,
            probabilities=probabilities,
            overwrite=overwrite,
        ) as mosaic:
            with progress_bar("mapping", pixels=grid.shape_yx[0] * grid.shape_yx[1], shown=progress) as advance:
                for inputs in _batches(reader, tiling, batch, watch, advance):
                    _map_batch(engine, inputs, mosaic, tally, watch, logits=probabilities)
                    advance(sum(tile.place.core_pixels for tile in inputs))
            with watch.stage("publish"):
                mosaic.publish()
    _say(tally.remarks(), report)
    messages = (*reader.messages, *tally.remarks())
    return tally.summary(files=mosaic.files, tiles=len(tiling), messages=messages, seconds=watch.seconds)


def _batch_of(given: int | None, tile_px: int) -> int:
    if given is None:
        return max(1, min(_LARGEST_BATCH, _BATCH_PIXELS // tile_px**2))
    if given < 1:
        raise RasterError(f"batch of {given} tiles, expected at least 1; leave it out for the usual one")
    return given


def _say(sentences: Iterable[str], report: Callable[[str], None] | None) -> None:
    if report is not None:
        for sentence in sentences:
            report(sentence)


def _batches(
    reader: SceneReader, tiling: Tiling, size: int, watch: Stopwatch, advance: Advance
) -> Iterator[list[TileInputs]]:
    """Tiles of the same modalities, `size` at a time; tiles that are void are passed over."""
    waiting: dict[frozenset[str], list[TileInputs]] = {}
    with closing(_read_ahead(reader, tiling, 2 * size, watch)) as tiles:
        for place, inputs in tiles:
            if inputs is None:
                advance(place.core_pixels)
                continue
            alike = waiting.setdefault(frozenset(inputs.tiles), [])
            alike.append(inputs)
            if len(alike) == size:
                yield waiting.pop(frozenset(inputs.tiles))
    yield from waiting.values()


def _read_ahead(
    reader: SceneReader, tiling: Tiling, depth: int, watch: Stopwatch
) -> Generator[tuple[TilePlace, TileInputs | None], None, None]:
    """Tiles in order, read by one thread while others are predicted; at most `depth` of them wait."""

    def read(place: TilePlace) -> TileInputs | None:
        with watch.stage("read"):
            return reader.read(place)

    pool = ThreadPoolExecutor(1, thread_name_prefix="read")
    try:
        pending: deque[tuple[TilePlace, Future[TileInputs | None]]] = deque()
        for place in tiling:
            pending.append((place, pool.submit(read, place)))
            if len(pending) > depth:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _map_batch(
    engine: Predictor, inputs: list[TileInputs], mosaic: Mosaic, tally: Tally, watch: Stopwatch, *, logits: bool
) -> None:
    with watch.stage("prepare"):
        tiles, voids = _stacked(inputs, engine.manifest)
    with watch.stage("infer"):
        maps = engine.predict(tiles, voids=voids, logits=logits, grid="base")
    with watch.stage("write"):
        for index, tile in enumerate(inputs):
            tally.add_tile(tile)
            for task in engine.manifest.tasks:
                result = TileMap(
                    maps.labels[task.name][index],
                    maps.confidence[task.name][index],
                    maps.logits[task.name][index] if logits else None,
                )
                labels = mosaic.write(tile.place, task.name, result, void=tile.void)
                tally.add_core(tile.place, task.name, labels)


def _stacked(inputs: list[TileInputs], manifest: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """A batch as the engine takes it; all its tiles have the same modalities."""
    tiles: dict[str, Any] = {}
    voids: dict[str, Any] = {}
    for modality in manifest.modalities:
        name = modality.name
        if name not in inputs[0].tiles:
            continue
        arrays, masks = [tile.tiles[name] for tile in inputs], [tile.voids[name] for tile in inputs]
        if modality.kind == "image":
            tiles[name], mask = np.stack(arrays), np.stack(masks)
            if mask.any():
                voids[name] = mask
        else:
            tiles[name], voids[name] = arrays, masks
            tiles[dates_key(name)] = [tile.tiles[dates_key(name)] for tile in inputs]
    return tiles, voids
