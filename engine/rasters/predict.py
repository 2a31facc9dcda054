"""Whole rasters to maps, so that nothing that is finished is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import rasterio

from ..errors import RasterError
from .area import Area
from .mosaic import Mosaic
from .patience import PatientReader
from .pipeline import Pipeline, Predictor
from .progress import progress_bar
from .reader import SceneReader
from .run import Begin, FileState, Run, files_of, settings_of
from .scene import Scene
from .summary import MapSummary, Stopwatch, Tally
from .tiling import Tiling, default_halo_px

__all__ = ["predict_raster"]

_GDAL_CACHE_BYTES = 256 * 2**20
_BATCH_PIXELS = 4 * 512 * 512
_LARGEST_BATCH = 64


def predict_raster(
    engine: Predictor,
    scene: Scene,
    out: str | os.PathLike[str],
    *,
    halo_px: int | None = None,
    batch: int | None = None,
    area: str | os.PathLike[str] | None = None,
    confidence: bool = True,
    probabilities: bool = False,
    overwrite: bool = False,
    begin: Begin = "new",
    keep_going: bool = False,
    allow_ungeoreferenced: bool = False,
    progress: bool = True,
    report: Callable[[str], None] | None = None,
) -> MapSummary:
    """Map the rasters of a scene on the pixels of its base modality, the plan's first image (or first series).

    The maps are Cloud-Optimised GeoTIFFs named after the base raster and the task. Files appear when all are complete;
    until then, what is finished is kept in a hidden folder beside them, and survives whatever stops the run. What the
    base does not show is void (255). The maps depend neither on `batch` nor on interruptions, and memory not on the
    rasters' size.

    Args:
        engine: a loaded engine.
        scene: which rasters.
        out: folder of the maps.
        halo_px: rim of a tile that only gives context, in pixels of the base; None takes an eighth of the tile.
        batch: tiles predicted at a time; None takes as many as make about a million pixels.
        area: vector file of polygons; pixels whose middle lies in none of them are void, and not computed.
        confidence: also write the largest probability in percent.
        probabilities: also write the probability of each class in percent.
        overwrite: replace maps that exist.
        begin: what to do where an interrupted run is kept: "new" refuses, "resume" goes on, "restart" throws it away.
        keep_going: leave tiles void that cannot be read, instead of stopping.
        allow_ungeoreferenced: map a single raster without CRS in its own pixels.
        progress: show a progress bar where standard error is a terminal.
        report: called with each sentence about the rasters and tiles as it is known.

    Raises:
        RasterError: a raster is missing, unreadable, elsewhere or not what the plan takes, changes while it is mapped,
            or a map cannot be written; or an interrupted run was begun with something else.
    """
    manifest = engine.manifest
    batch = _batch_of(batch, manifest.base_px)
    halo_px = default_halo_px(manifest.base_px) if halo_px is None else halo_px
    out, say = Path(out), report or _nobody
    files = {path: FileState.of(path) for path in files_of(scene)}
    with (
        rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES),
        SceneReader(manifest, scene, allow_ungeoreferenced=allow_ungeoreferenced) as reader,
    ):
        _say(reader.messages, say)
        tiling = Tiling(reader.grid.shape_yx, tile_px=manifest.base_px, halo_px=halo_px)
        wanted = Area(Path(area), grid=reader.grid) if area is not None else None
        mosaic = Mosaic(
            out,
            stem=scene.inputs[manifest.base].path.stem,
            manifest=manifest,
            plan_hash=engine.plan_hash,
            grid=reader.grid,
            confidence=confidence,
            probabilities=probabilities,
        )
        settings = settings_of(
            plan=engine.plan_hash,
            device=engine.device,
            precision=engine.precision,
            scene=scene,
            files=files,
            grid=reader.grid,
            tiling=tiling,
            maps=mosaic.bands,
            area=wanted.content if wanted else None,
        )
        watch, tally = Stopwatch(), Tally(manifest, reader.grid)
        with Run(mosaic.run_folder, settings, begin=begin, tiles=len(tiling), report=say) as run:
            if not (overwrite or run.publishing):
                mosaic.refuse_existing()
            pipeline = Pipeline(engine, mosaic, run, watch, logits=probabilities, keep_going=keep_going)
            with watch.stage("mapping"), progress_bar("mapping", pixels=tiling.pixels, shown=progress) as advance:
                pipeline.map(PatientReader(reader, [*files.values()]), tiling, wanted, batch=batch, advance=advance)
            with watch.stage("publish"):
                _publish(mosaic, run, tiling, tally)
            watch.seconds["keep"] = run.write_seconds
        _say(tally.remarks(), say)
        messages = (*reader.messages, *tally.remarks())
        return tally.summary(files=mosaic.files, tiles=len(tiling), messages=messages, seconds=watch.seconds)


def _batch_of(given: int | None, tile_px: int) -> int:
    if given is None:
        return max(1, min(_LARGEST_BATCH, _BATCH_PIXELS // tile_px**2))
    if given < 1:
        raise RasterError(f"batch of {given} tiles, expected at least 1; leave it out for the usual one")
    return given


def _nobody(sentence: str) -> None:
    """Is told a sentence."""


def _say(sentences: Iterable[str], report: Callable[[str], None]) -> None:
    for sentence in sentences:
        report(sentence)


def _publish(mosaic: Mosaic, run: Run, tiling: Tiling, tally: Tally) -> None:
    """Put together what was kept, and give the maps their names."""
    with mosaic.assembly(run.work) as assembly:
        for outcome in run.outcomes():
            place = tiling[outcome.tile]
            tally.add_tile(outcome)
            if outcome.state == "mapped":
                maps = assembly.paste(place, outcome.maps)
                for task, files in mosaic.files.items():
                    tally.add_core(place, task, maps[files.labels.name])
        assembly.finish()
        run.begin_publishing()
        assembly.publish()
    run.end_publishing()
