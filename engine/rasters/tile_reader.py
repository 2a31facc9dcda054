"""Tiles by their numbers: what of a tile is to be mapped, or what became of it without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import rasterio

from ..errors import UPerFuseError
from ..plan.manifest import Manifest
from .area import Area
from .blocks import BlockLayout
from .files import UnreadableError
from .grid import Grid
from .patience import PatientReader
from .reader import SceneReader, TileInputs
from .run import FileState, Outcome
from .scene import Scene
from .tiling import Tiling

__all__ = ["Answer", "ReadTile", "Reading", "TileReader", "unreadable"]


@dataclass(frozen=True)
class ReadTile:
    """A tile by its number, and what was read of it."""

    number: int
    inputs: TileInputs


@dataclass(frozen=True)
class Answer:
    """What a reader of another process says of a tile.

    Attributes:
        said: what was read, what became of the tile without, or why it was not read.
        seconds: that it took.
    """

    said: Outcome | ReadTile | UPerFuseError
    seconds: float


@dataclass(frozen=True)
class Reading:
    """What is to be read, and how; it travels, and holds nothing that is open.

    Attributes:
        manifest: what the plan takes.
        scene: where it is.
        files: state of its files when the run began.
        tiling: of the map.
        area: outside of which nothing is mapped, if one is given.
        keep_going: a tile that cannot be read is no error.
        allow_ungeoreferenced: map a single raster without CRS in its own pixels.
    """

    manifest: Manifest
    scene: Scene
    files: tuple[FileState, ...]
    tiling: Tiling
    area: Area | None
    keep_going: bool
    allow_ungeoreferenced: bool

    @contextmanager
    def opened(self, *, cache_bytes: int) -> Iterator[TileReader]:
        """A reader with files of its own, for the thread that opens it.

        Args:
            cache_bytes: of blocks that GDAL keeps.

        Raises:
            RasterError: a raster is missing or another one.
        """
        with (
            rasterio.Env(GDAL_CACHEMAX=cache_bytes),
            SceneReader(self.manifest, self.scene, allow_ungeoreferenced=self.allow_ungeoreferenced) as reader,
        ):
            yield TileReader(reader, self)


class TileReader:
    """Reads tiles by their numbers from rasters that are open.

    Args:
        reader: of the rasters.
        reading: what is to be read.
    """

    def __init__(self, reader: SceneReader, reading: Reading) -> None:
        self._reader = reader
        self._patient = PatientReader(reader, reading.files)
        self._reading = reading

    @property
    def grid(self) -> Grid:
        """Pixels of the map."""
        return self._reader.grid

    @property
    def layouts(self) -> list[BlockLayout]:
        """How the rasters lie on the disk; the base modality's first."""
        return self._reader.layouts

    def read(self, tile: int) -> Outcome | ReadTile:
        """Read a tile, or tell what became of it.

        Raises:
            UnreadableError: it was tried in vain, and is not to be left void.
            RasterError: a file is gone, or another than when the run began.
        """
        reading = self._reading
        place = reading.tiling[tile]
        outside = reading.area.outside(place) if reading.area else None
        if outside is not None and outside[place.core_in_tile_yx].all():
            return Outcome(tile, "void")
        try:
            inputs = self._patient.read(place)
        except UnreadableError as error:
            return unreadable(reading, tile, error)
        if inputs is None:
            return Outcome(tile, "void")
        if outside is not None:
            inputs = replace(inputs, void=inputs.void | outside)
        return ReadTile(tile, inputs)


def unreadable(reading: Reading, tile: int, error: UnreadableError) -> Outcome:
    """What becomes of a tile that cannot be read.

    Raises:
        UnreadableError: it is not to be left void.
    """
    if not reading.keep_going:
        raise error
    return Outcome(tile, "unreadable", {"": str(error)})
