"""The maps of a scene while they grow: cores are written to working files, final names appear when all is complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..errors import RasterError
from ..plan.manifest import Manifest
from ..plan.network import Task
from ..prediction import VOID
from .cog import ByteRaster, Description
from .grid import Grid
from .style import class_tags, colour_table, gdal_sidecar, qgis_style
from .tiling import TilePlace

__all__ = ["MapFiles", "Mosaic", "TileMap"]


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
    """Maps under construction in a hidden folder inside `out`, which is gone when the context ends.

    Args:
        out: folder of the maps; made where it does not exist.
        stem: first part of the file names.
        manifest: tasks and classes.
        plan_hash: identity of the plan, written into the maps.
        grid: pixels of the maps.
        confidence: also keep the largest probability.
        probabilities: also keep the probability of each class.
        overwrite: replace files that exist.

    Attributes:
        files: task -> names of the finished maps.

    Raises:
        RasterError: a map exists already.
    """

    def __init__(
        self,
        out: Path,
        *,
        stem: str,
        manifest: Manifest,
        plan_hash: str,
        grid: Grid,
        confidence: bool,
        probabilities: bool,
        overwrite: bool,
    ) -> None:
        self.files = {
            task.name: MapFiles.plan(out, stem=stem, task=task.name, confidence=confidence, probabilities=probabilities)
            for task in manifest.tasks
        }
        self._overwrite = overwrite
        self._refuse_existing()
        self._tasks = manifest.tasks
        self._tags = {
            "TIFFTAG_SOFTWARE": f"uperfuse {version('uperfuse')}",
            "UPERFUSE_VERSION": version("uperfuse"),
            "UPERFUSE_NETWORK": manifest.name,
            "UPERFUSE_PLAN": plan_hash,
        }
        self._grid = grid
        self._out = out
        self._rasters: dict[Path, ByteRaster] = {}

    def __enter__(self) -> Mosaic:
        self._new_folder = not self._out.exists()
        self._out.mkdir(parents=True, exist_ok=True)
        self._work = Path(tempfile.mkdtemp(prefix=".uperfuse-", dir=self._out))
        try:
            for task in self._tasks:
                self._begin(task)
        except BaseException:  # nothing half-written stays, after Ctrl-C neither
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def write(self, place: TilePlace, task: str, tile: TileMap, *, void: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Write the core of a tile.

        Args:
            place: where it lies.
            task: which map.
            tile: the map of the tile, halo included.
            void: void pixels of the tile [Y, X]; they are 255 in every map.

        Returns:
            Labels of the core, [Y, X].
        """
        core = place.core_in_tile_yx
        hidden = void[core]
        files = self.files[task]
        labels = np.where(hidden, np.uint8(VOID), tile.labels[core])
        self._write(files.labels, labels[None], place)
        if files.confidence is not None:
            self._write(files.confidence, np.where(hidden, np.uint8(VOID), tile.confidence[core])[None], place)
        if files.probabilities is not None:
            assert tile.logits is not None, "logits are asked for together with probabilities"
            percent = _percent(tile.logits[:, core[0], core[1]])
            self._write(files.probabilities, np.where(hidden, np.uint8(VOID), percent), place)
        return labels

    def publish(self) -> None:
        """Turn the working files into Cloud-Optimised GeoTIFFs, and give all of them their names at the end.

        Raises:
            RasterError: a file cannot be written, or has appeared under one of the names meanwhile.
        """
        for task in self._tasks:
            files = self.files[task.name]
            self._finished(files.style).write_bytes(qgis_style(task))
            self._finished(files.names).write_bytes(gdal_sidecar(task))
        for path, raster in self._rasters.items():
            raster.finish(self._finished(path))
        self._refuse_existing()
        for files in self.files.values():
            for path in files:
                os.replace(self._finished(path), path)

    def _begin(self, task: Task) -> None:
        files = self.files[task.name]
        tags = {**self._tags, "UPERFUSE_TASK": task.name}
        classes = [entry.name for entry in task.classes]
        descriptions = {
            files.labels: Description([task.name], tags, class_tags(task), colour_table(task)),
            files.confidence: Description(["confidence in percent"], tags, overviews="AVERAGE"),
            files.probabilities: Description(classes, tags, overviews="AVERAGE"),
        }
        for path, description in descriptions.items():
            if path is not None:
                working = self._work / f"working-{path.name}"
                self._rasters[path] = ByteRaster(working, grid=self._grid, description=description)

    def _write(self, path: Path, values: NDArray[np.uint8], place: TilePlace) -> None:
        rows, columns = place.core_yx
        self._rasters[path].write(values, rows=rows, columns=columns)

    def _finished(self, path: Path) -> Path:
        return self._work / path.name

    def _refuse_existing(self) -> None:
        existing = [str(path) for files in self.files.values() for path in files if path.exists()]
        if existing and not self._overwrite:
            raise RasterError(f"{', '.join(existing)} exists already; choose another folder, or give --overwrite")

    def _clear(self) -> None:
        for raster in self._rasters.values():
            raster.close()
        shutil.rmtree(self._work, ignore_errors=True)
        if self._new_folder and not any(self._out.iterdir()):
            self._out.rmdir()


def _percent(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities of the classes in percent, [K, Y, X]."""
    powers = np.exp(logits - logits.max(axis=0))
    percent: NDArray[np.uint8] = np.rint(100 * powers / powers.sum(axis=0)).astype(np.uint8)
    return percent
