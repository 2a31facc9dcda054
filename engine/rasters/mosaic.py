"""The maps of a scene: what each tile gives of them, and how they are put together and get their names."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import RasterError
from ..plan.manifest import Manifest
from ..plan.network import Task
from ..prediction import VOID
from .blending import kept_probabilities, mix, probabilities
from .cog import ByteRaster, Description
from .grid import Grid
from .seams import Piece, Seams
from .style import class_tags, colour_table, gdal_sidecar, qgis_style

__all__ = ["Assembly", "Kept", "MapFiles", "Mosaic", "TileMap"]

Kept = Callable[[int, str], "NDArray[np.uint8] | None"]
"""By number of a tile and name: what `Mosaic.cut` gave, in any shape; None of a tile that is not mapped."""


@dataclass(frozen=True)
class MapFiles:
    """Files of one task.

    Attributes:
        labels: classes, 255 where void.
        style: colours and names for QGIS; `names` the same for GDAL.
        confidence: largest probability in percent, 255 where void, if asked for.
        probabilities: one band of percent for each class, 255 where void, if asked for.
    """

    labels: Path
    style: Path
    names: Path
    confidence: Path | None
    probabilities: Path | None

    def __iter__(self) -> Iterator[Path]:
        """The files in the order in which they appear: what belongs to a map before the map itself."""
        files = (self.style, self.names, self.probabilities, self.confidence, self.labels)
        return (file for file in files if file is not None)

    @classmethod
    def plan(cls, out: Path, *, stem: str, task: str, confidence: bool, probabilities: bool) -> MapFiles:
        """Names of the files of `task` in the folder `out`."""
        name = f"{stem}_{task}"
        return cls(
            labels=out / f"{name}.tif",
            style=out / f"{name}.qml",
            names=out / f"{name}.tif.aux.xml",
            confidence=out / f"{name}_confidence.tif" if confidence else None,
            probabilities=out / f"{name}_probabilities.tif" if probabilities else None,
        )


@dataclass(frozen=True)
class TileMap:
    """The map of one tile for one task, of its full size: uint8 [Y, X] and, if asked for, float32 [K, Y, X]."""

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    logits: NDArray[np.float32] | None


class Mosaic:
    """The maps of a scene, one for each task and what is known of its pixels.

    Args:
        out: folder of the maps.
        stem: first part of the file names.
        manifest: tasks and classes.
        plan_hash: identity of the plan, written into the maps.
        grid: pixels of the maps.
        seams: which tiles give each piece of the maps.
        confidence: also keep the largest probability.
        probabilities: also keep the probability of each class.

    Attributes:
        files: task -> names of the finished maps.
        run_folder: where what is finished of them is kept until then.
        bands: name of each raster -> number of its bands.
    """

    def __init__(
        self,
        out: Path,
        *,
        stem: str,
        manifest: Manifest,
        plan_hash: str,
        grid: Grid,
        seams: Seams,
        confidence: bool,
        probabilities: bool,
    ) -> None:
        self.files = {
            task.name: MapFiles.plan(out, stem=stem, task=task.name, confidence=confidence, probabilities=probabilities)
            for task in manifest.tasks
        }
        self.run_folder = out / f".uperfuse-{'_'.join((stem, *self.files))}"
        self._tasks = manifest.tasks
        self._tags = {
            "TIFFTAG_SOFTWARE": f"uperfuse {version('uperfuse')}",
            "UPERFUSE_VERSION": version("uperfuse"),
            "UPERFUSE_NETWORK": manifest.name,
            "UPERFUSE_PLAN": plan_hash,
        }
        self._grid = grid
        self._seams = seams
        described = [item for task in manifest.tasks for item in self._describe(task)]
        self._descriptions = {path.name: description for path, description in described if path is not None}
        self.bands = {name: len(description.bands) for name, description in self._descriptions.items()}

    def refuse_existing(self) -> None:
        """Look whether the names are free.

        Raises:
            RasterError: a map exists already.
        """
        existing = [str(path) for files in self.files.values() for path in files if path.exists()]
        if existing:
            raise RasterError(f"{', '.join(existing)} exists already; choose another folder, or give --overwrite")

    def cut(self, tile: int, task: str, whole: TileMap, *, void: NDArray[np.bool_]) -> dict[str, NDArray[np.uint8]]:
        """What a tile gives of the maps of a task.

        Args:
            tile: its number.
            task: which map.
            whole: the map of the tile, halo included.
            void: void pixels of the tile [Y, X]; they are 255 in every map.

        Returns:
            Name of a raster -> the piece that the tile gives alone, [bands, Y, X]; and for every piece that it gives
            with others, its probabilities.
        """
        place = self._seams.tiling[tile]
        given: dict[str, NDArray[np.uint8]] = {}
        for piece in self._seams.of(tile):
            rows, columns = piece.in_tile_yx(place)
            unseen = void[rows, columns]
            if len(piece.tiles) > 1:
                assert whole.logits is not None, "logits are asked for together with blending"
                kept = kept_probabilities(whole.logits[:, rows, columns], void=unseen)
                given[_shared_name(task, piece)] = kept
                continue
            for name, values in self._values(task, whole, rows, columns).items():
                given[name] = np.where(unseen, np.uint8(VOID), values)
        return given

    def _values(self, task: str, whole: TileMap, rows: slice, columns: slice) -> dict[str, NDArray[np.uint8]]:
        files = self.files[task]
        values = {files.labels.name: whole.labels[None, rows, columns]}
        if files.confidence is not None:
            values[files.confidence.name] = whole.confidence[None, rows, columns]
        if files.probabilities is not None:
            assert whole.logits is not None, "logits are asked for together with probabilities"
            percent = np.rint(100 * probabilities(whole.logits[:, rows, columns]))
            values[files.probabilities.name] = percent.astype(np.uint8)
        return values

    @contextmanager
    def assembly(self, work: Path, kept: Kept) -> Iterator[Assembly]:
        """The maps, put together in the folder `work` of what was kept.

        Raises:
            RasterError: the disk does not take them.
        """
        rasters: dict[str, ByteRaster] = {}
        try:
            for name, description in self._descriptions.items():
                rasters[name] = ByteRaster(work / f"working-{name}", grid=self._grid, description=description)
            yield Assembly(self, rasters, work, kept)
        finally:
            for raster in rasters.values():
                raster.close()

    def _describe(self, task: Task) -> list[tuple[Path | None, Description]]:
        files = self.files[task.name]
        tags = {**self._tags, "UPERFUSE_TASK": task.name}
        classes = [entry.name for entry in task.classes]
        return [
            (files.labels, Description([task.name], tags, class_tags(task), colour_table(task))),
            (files.confidence, Description(["confidence in percent"], tags, overviews="AVERAGE")),
            (files.probabilities, Description(classes, tags, overviews="AVERAGE")),
        ]


class Assembly:
    """Maps that are being put together; made by `Mosaic.assembly`."""

    def __init__(self, mosaic: Mosaic, rasters: Mapping[str, ByteRaster], work: Path, kept: Kept) -> None:
        self._mosaic = mosaic
        self._rasters = rasters
        self._work = work
        self._kept = kept

    def paste(self, tile: int) -> Iterator[tuple[Piece, dict[str, NDArray[np.uint8]]]]:
        """Put the pieces where they belong of which a tile is the last that gives them.

        Nothing is held for a later tile: what the others gave of a piece is looked up when it is its turn.

        Args:
            tile: its number; all before it were pasted.

        Yields:
            Each piece that is not all void, and name of a raster -> its values, [bands, Y, X].

        Raises:
            RasterError: the disk does not take it, or a tile is not what `cut` gave.
        """
        for piece in self._mosaic._seams.finished_by(tile):
            values = self._alone(piece, tile) if len(piece.tiles) == 1 else self._mixed(piece)
            if not values:
                continue
            rows, columns = piece.yx
            for name, raster in self._rasters.items():
                raster.write(values[name], rows=rows, columns=columns)
            yield piece, values

    def _alone(self, piece: Piece, tile: int) -> dict[str, NDArray[np.uint8]]:
        """A piece as its one tile gave it; nothing of a tile that was not mapped."""
        values = {}
        for name in self._rasters:
            kept = self._kept_of(tile, name, (self._mosaic.bands[name], *piece.shape_yx))
            if kept is not None:
                values[name] = kept
        return values

    def _mixed(self, piece: Piece) -> dict[str, NDArray[np.uint8]]:
        """A piece that several tiles gave; nothing where none of them was mapped."""
        values: dict[str, NDArray[np.uint8]] = {}
        for task in self._mosaic._tasks:
            files, classes = self._mosaic.files[task.name], len(task.classes)
            name, shape = _shared_name(task.name, piece), (2, classes, *piece.shape_yx)
            parts = {tile: part for tile in piece.tiles if (part := self._kept_of(tile, name, shape)) is not None}
            if not parts:
                continue
            mixed = mix(piece, parts, classes=classes, percent=files.probabilities is not None)
            values[files.labels.name] = mixed.labels[None]
            if files.confidence is not None:
                values[files.confidence.name] = mixed.confidence[None]
            if files.probabilities is not None:
                assert mixed.percent is not None, "percent were asked for"
                values[files.probabilities.name] = mixed.percent
        return values

    def _kept_of(self, tile: int, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
        kept = self._kept(tile, name)
        if kept is None:
            return None
        if kept.size != math.prod(shape):
            raise RasterError(f"a tile was kept with another size of {name}; begin anew with --restart")
        return kept.reshape(shape)

    def finish(self) -> None:
        """Make Cloud-Optimised GeoTIFFs of what was put together, and all that belongs to them, in the work folder.

        Raises:
            RasterError: a file cannot be written, or reads back otherwise.
        """
        for task in self._mosaic._tasks:
            files = self._mosaic.files[task.name]
            (self._work / files.style.name).write_bytes(qgis_style(task))
            (self._work / files.names.name).write_bytes(gdal_sidecar(task))
        for name, raster in self._rasters.items():
            raster.finish(self._work / name)
        for path in self._paths():
            _to_disk(self._work / path.name)

    def publish(self) -> None:
        """Give the finished files their names, replacing what has them."""
        for path in self._paths():
            os.replace(self._work / path.name, path)
        for folder in {path.parent for path in self._paths()}:
            _to_disk(folder)

    def _paths(self) -> list[Path]:
        return [path for files in self._mosaic.files.values() for path in files]


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _shared_name(task: str, piece: Piece) -> str:
    """By which a tile's probabilities of a piece are kept."""
    return f"{task}, {piece.words}"
