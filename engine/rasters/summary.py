"""What a map came to: areas, void share, what was remarkable, and where the time went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..plan.manifest import Manifest
from ..prediction import VOID
from .grid import Grid
from .mosaic import MapFiles
from .run import Outcome
from .seams import Piece

__all__ = ["MapSummary", "Tally"]

_HECTARE_M2 = 10_000.0
_LISTED = 10


@dataclass(frozen=True)
class MapSummary:
    """What `predict_raster` made.

    Attributes:
        files: task -> its files.
        pixels: task -> class name -> number of pixels; classes that do not occur count 0.
        areas_ha: task -> class name -> area on the ground in hectares; empty for a raster without CRS.
        tiles: number of tiles.
        void_tiles: tiles without a single valid pixel in their core; they were not computed.
        void_fraction: void share of the map's pixels, 0 to 1.
        unreadable: tiles that were left void because they could not be read, and why.
        messages: all that was said of the rasters and of the tiles.
        seconds: stage -> seconds that it was busy: "read" (of several readers the mean) and "keep" beside everything
            else; "stack", the engine's
            stages (or "predict" where it does not tell them apart) and "cut" one after the other; "publish" when all
            of that is over. "mapping" is the wall-clock time of all but the last.
    """

    files: Mapping[str, MapFiles]
    pixels: Mapping[str, Mapping[str, int]]
    areas_ha: Mapping[str, Mapping[str, float]]
    tiles: int
    void_tiles: int
    void_fraction: float
    unreadable: tuple[str, ...]
    messages: tuple[str, ...]
    seconds: Mapping[str, float]

    def stages(self) -> str:
        """How long it took, how busy each stage was, and which one set the pace."""
        mapping = self.seconds.get("mapping", 0.0)
        busy = {stage: seconds for stage, seconds in self.seconds.items() if stage not in ("mapping", "publish")}
        words = f"mapped in {mapping:.1f} s, published in {self.seconds.get('publish', 0.0):.1f} s"
        if not mapping or not busy:
            return words
        shares = ", ".join(f"{stage} {seconds / mapping:.0%}" for stage, seconds in busy.items())
        slowest = max(busy, key=lambda stage: busy[stage])
        advice = ": more --readers may keep up" if slowest == "read" else ""
        return f"{words}; busy: {shares}; {slowest} sets the pace{advice}"


class Tally:
    """Counts over the tiles of one map."""

    def __init__(self, manifest: Manifest, grid: Grid) -> None:
        self._tasks = manifest.tasks
        self._grid = grid
        self._pixels = {task.name: np.zeros(256, np.int64) for task in manifest.tasks}
        self._areas_m2 = {task.name: np.zeros(256, np.float64) for task in manifest.tasks}
        self._remarks: Counter[tuple[str, str]] = Counter()
        self._states: Counter[str] = Counter()
        self._unreadable: list[str] = []

    def add_tile(self, outcome: Outcome) -> None:
        """Count a tile, with what was remarkable of it."""
        self._states[outcome.state] += 1
        if outcome.state == "unreadable":
            self._unreadable += outcome.remarks.values()
        else:
            self._remarks.update(outcome.remarks.items())

    def add_piece(self, piece: Piece, task: str, labels: NDArray[np.uint8]) -> None:
        """Count the labels [Y, X] of a piece of a map; a pixel's area is taken at the middle of it."""
        counts = np.bincount(labels.ravel(), minlength=256)
        rows, columns = piece.yx
        size = self._grid.pixel_size(row=(rows.start + rows.stop) / 2, column=(columns.start + columns.stop) / 2)
        self._pixels[task] += counts
        self._areas_m2[task] += counts * (size.area_m2 if size is not None else 0.0)

    def summary(
        self,
        *,
        files: Mapping[str, MapFiles],
        tiles: int,
        messages: Sequence[str],
        seconds: Mapping[str, float],
    ) -> MapSummary:
        """Everything counted so far."""
        names = {task.name: [entry.name for entry in task.classes] for task in self._tasks}
        total = self._grid.shape_yx[0] * self._grid.shape_yx[1]
        counts = next(iter(self._pixels.values()))
        located = self._grid.crs is not None
        return MapSummary(
            files=files,
            pixels={task: _by_class(classes, self._pixels[task].tolist()) for task, classes in names.items()},
            areas_ha={
                task: _by_class(classes, (self._areas_m2[task] / _HECTARE_M2).tolist())
                for task, classes in names.items()
                if located
            },
            tiles=tiles,
            void_tiles=self._states["void"],
            void_fraction=1 - int(counts[:VOID].sum()) / total,
            unreadable=tuple(self._unreadable),
            messages=tuple(messages),
            seconds=dict(seconds),
        )

    def remarks(self) -> list[str]:
        """What was remarkable of the tiles, in words."""
        computed = self._states["mapped"]
        said = [
            f"{modality}: {count} of {computed} tiles {remark}"
            for (modality, remark), count in sorted(self._remarks.items())
        ]
        if self._unreadable:
            said.append(f"{len(self._unreadable)} tiles could not be read and are void: {_some(self._unreadable)}")
        return said


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return "; ".join(texts[:_LISTED]) + more


_Amount = TypeVar("_Amount", int, float)


def _by_class(classes: Sequence[str], amounts: Sequence[_Amount]) -> dict[str, _Amount]:
    """Amount of each class; classes of one name are added up."""
    by_name: dict[str, _Amount] = {}
    for name, amount in zip(classes, amounts, strict=False):
        by_name[name] = by_name.get(name, type(amount)(0)) + amount
    return by_name
