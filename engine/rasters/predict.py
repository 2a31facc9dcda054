"""Whole rasters to maps, so that nothing that is finished is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..stopwatch import Stopwatch
from .mosaic import Mosaic
from .pipeline import Pipeline, Predictor, remaining
from .progress import Advance, progress_bar
from .run import Begin, Run
from .scene import Scene
from .summary import MapSummary, Tally
from .work import MapOptions, Planned, Work, open_work

__all__ = ["MapTiles", "map_scene", "map_with_engine", "predict_raster"]

MapTiles = Callable[[Work, Run, Sequence[int], Stopwatch, Advance], None]
"""Maps some tiles of an open scene and gives every outcome to the run."""


def predict_raster(
    engine: Predictor,
    scene: Scene,
    out: str | os.PathLike[str],
    *,
    halo_px: int | None = None,
    blend_px: int = 0,
    batch: int | None = None,
    area: str | os.PathLike[str] | None = None,
    confidence: bool = True,
    probabilities: bool = False,
    readers: int | None = 1,
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
    base does not show is void (255). The maps do not depend on `batch`, `readers` or interruptions, nor memory on
    the rasters' size.

    Args:
        engine: a loaded engine.
        scene: which rasters.
        out: folder of the maps.
        halo_px: rim of a tile that only gives context, in pixels of the base; None takes an eighth of the tile, at most
            64 px.
        blend_px: distance from a seam, in pixels of the base, up to which the probabilities of neighbouring tiles are
            mixed, from the one to the other; at most the halo. Until the maps are finished, two bytes are kept of each
            class of each pixel this near to a seam, of every tile that shows it.
        batch: tiles predicted at a time; None takes as many as make about a million pixels.
        area: vector file of polygons; pixels whose middle lies in none of them are void, and not computed.
        confidence: also write the largest probability in percent.
        probabilities: also write the probability of each class in percent.
        readers: how many read the rasters, while tiles are mapped: 1 is a thread of this process, more are processes
            with open files of their own, which know settings of GDAL from the environment alone. None begins with a
            thread; where the first tiles show that reading sets the pace, and the run is long enough to gain by it,
            as many processes read the others as keep up, at most one for each core: not for rasters that need settings
            of a `rasterio.Env`.
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
    options = MapOptions(
        halo_px=halo_px,
        blend_px=blend_px,
        batch=batch,
        area=None if area is None else Path(area),
        confidence=confidence,
        probabilities=probabilities,
        readers=readers,
        keep_going=keep_going,
        allow_ungeoreferenced=allow_ungeoreferenced,
    )

    return map_with_engine(
        engine,
        scene,
        Path(out),
        options,
        overwrite=overwrite,
        begin=begin,
        progress=progress,
        report=report or _nobody,
    )


def map_with_engine(
    engine: Predictor,
    scene: Scene,
    out: Path,
    options: MapOptions,
    *,
    overwrite: bool,
    begin: Begin,
    progress: bool,
    report: Callable[[str], None],
) -> MapSummary:
    """Map a scene in this process; see `predict_raster`."""

    def map_tiles(work: Work, run: Run, tiles: Sequence[int], watch: Stopwatch, advance: Advance) -> None:
        Pipeline(engine, work, run.keep, watch, advance).map(tiles)

    return map_scene(
        engine,
        scene,
        out,
        options,
        map_tiles=map_tiles,
        overwrite=overwrite,
        begin=begin,
        progress=progress,
        report=report,
    )


def map_scene(
    planned: Planned,
    scene: Scene,
    out: Path,
    options: MapOptions,
    *,
    map_tiles: MapTiles,
    overwrite: bool,
    begin: Begin,
    progress: bool,
    report: Callable[[str], None],
) -> MapSummary:
    """Map a scene by whatever maps tiles; see `predict_raster`."""
    watch = Stopwatch()
    with open_work(planned, scene, out, options, report=report) as work:
        mosaic, tiling = work.mosaic, work.tiling
        tally = Tally(work.manifest, work.reader.grid)
        with Run(mosaic.run_folder, work.settings, begin=begin, tiles=len(tiling), report=report) as run:
            if not (overwrite or run.publishing):
                mosaic.refuse_existing()
            with watch.stage("mapping"), progress_bar("mapping", pixels=tiling.pixels, shown=progress) as advance:
                advance(sum(tiling[tile].core_pixels for tile in run.finished))
                map_tiles(work, run, remaining(tiling, run.finished), watch, advance)
            with watch.stage("publish"):
                _publish(mosaic, run, tally)
            watch.seconds["keep"] = run.write_seconds
        remarks = (*work.readers.remarks(), *tally.remarks())
        for sentence in remarks:
            report(sentence)
        messages = (*work.reader.messages, *work.readers.messages, *remarks)
        return tally.summary(files=mosaic.files, tiles=len(tiling), messages=messages, seconds=watch.seconds)


def _nobody(sentence: str) -> None:
    """Is told a sentence."""


def _publish(mosaic: Mosaic, run: Run, tally: Tally) -> None:
    """Put together what was kept, and give the maps their names."""
    with mosaic.assembly(run.work, run.map) as assembly:
        for outcome in run.outcomes():
            tally.add_tile(outcome)
            for piece, maps in assembly.paste(outcome.tile):
                for task, files in mosaic.files.items():
                    tally.add_piece(piece, task, maps[files.labels.name])
        assembly.finish()
        run.begin_publishing()
        assembly.publish()
    run.end_publishing()
