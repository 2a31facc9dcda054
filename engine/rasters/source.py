"""One raster of a scene, read in the plan's bands and type, with its void pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from ..errors import RasterError
from ..plan.network import Modality
from .bands import BandChoice, BandLabel, band_names, choose_bands
from .blocks import BlockLayout
from .dates import read_dates
from .digital_numbers import cast, missing_pixels
from .files import grid_of, is_transparency, open_raster, reading
from .grid import Grid
from .scene import Source

__all__ = ["MaskRaster", "Pixels", "RasterSource", "Readable"]


@dataclass(frozen=True)
class Pixels:
    """A rectangle of a raster; an image has one acquisition.

    Attributes:
        values: digital numbers [T, C, Y, X], 0 where void.
        void: True where nothing was observed, [T, Y, X].
    """

    values: NDArray[Any]
    void: NDArray[np.bool_]

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """Pixels that no acquisition sees, [Y, X]."""
        unseen: NDArray[np.bool_] = np.logical_and.reduce(self.void, axis=0)
        return unseen


class Readable(Protocol):
    """A raster that is read by rectangles of its own pixels."""

    grid: Grid

    def read(self, window: Window, *, shape_yx: tuple[int, int] | None = None) -> Pixels:
        """Read a rectangle inside the raster; every n-th pixel of it where `shape_yx` is smaller."""
        ...


class RasterSource:
    """The raster of one modality, open.

    Args:
        modality: what the plan takes.
        source: where it is.

    Attributes:
        grid: its pixels.
        layout: how it lies on the disk.
        dates: of a series, `datetime64[D]` of each acquisition, [T]; None for an image.
        messages: how it is understood, for the user.

    Raises:
        RasterError: the file cannot be read, or its bands, dates or type are not what the plan takes.
    """

    def __init__(self, modality: Modality, source: Source) -> None:
        self.modality = modality
        self.path = source.path
        self.dates = _dates_of(modality, source)
        self._target = np.dtype(modality.dtype)
        self._dataset = open_raster(source.path)
        try:
            self._understand(source)
        except BaseException:  # whatever stops the reading of it, the file is closed
            self._dataset.close()
            raise

    def _understand(self, source: Source) -> None:
        self.grid = grid_of(source.path, self._dataset)
        self.layout = BlockLayout.of(self._dataset, self.grid)
        self._check_types()
        acquisitions = 1 if self.dates is None else len(self.dates)
        labels = _labels_of_one(self._dataset, source.path, self.modality, acquisitions)
        with reading(source.path):
            choice = choose_bands(
                self.modality,
                labels=labels,
                given=source.bands,
                file=str(source.path),
                is_transparency=lambda number: is_transparency(self._dataset, number),
            )
        self._alpha = choice.alpha
        self._numbers = [t * len(labels) + number for t in range(acquisitions) for number in choice.numbers]
        nodata = self._dataset.nodatavals  # made anew each time that it is asked for
        self._nodata = [nodata[number - 1] for number in self._numbers]
        if source.nodata is not None:
            self._nodata = [source.nodata] * len(self._numbers)
        flags = self._dataset.mask_flag_enums[self._numbers[0] - 1]
        self._masked = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        self.messages = [self._say_bands(choice), *self._say_scale()]

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    def reopen(self) -> None:
        """Open the file anew, as after a share was away.

        Raises:
            RasterError: it is not there.
        """
        self._dataset.close()
        self._dataset = open_raster(self.path)

    def read(self, window: Window, *, shape_yx: tuple[int, int] | None = None) -> Pixels:
        """Read a rectangle in the plan's bands and type.

        Raises:
            RasterError: the file breaks, or holds a number that the plan's type cannot.
        """
        shape = shape_yx or (window.height, window.width)
        with reading(self.path):
            raw = self._dataset.read(self._numbers, window=window, out_shape=(len(self._numbers), *shape))
            hidden = self._hidden(window, shape)
        raw = raw.reshape(-1, len(self.modality.bands), *shape)  # [T, C, Y, X]
        void = hidden | missing_pixels(raw, nodata=self._nodata, target=self._target)  # [T, Y, X]
        try:
            return Pixels(cast(raw, void=void, target=self._target), void)
        except ValueError as error:
            raise RasterError(
                f"{self.path}: {error}, which {self.modality.name} of the plan takes; bring the raster to the "
                "sensor's scale, or name its nodata value"
            ) from None

    def _hidden(self, window: Window, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
        """Pixels that a mask or an alpha band of the file hides, [Y, X]."""
        hidden = np.zeros(shape_yx, np.bool_)
        if self._alpha is not None:
            hidden |= self._dataset.read(self._alpha, window=window, out_shape=shape_yx) == 0
        if self._masked:
            hidden |= self._dataset.read_masks(self._numbers[0], window=window, out_shape=shape_yx) == 0
        return hidden

    def _check_types(self) -> None:
        for dtype in sorted(set(self._dataset.dtypes)):
            kind = "c" if dtype.startswith("complex") else np.dtype(dtype).kind
            if kind not in "iuf" or (kind == "f" and self._target.kind != "f"):
                raise RasterError(
                    f"{self.path} is of type {dtype}, {self.modality.name} of the plan takes {self._target}; "
                    "convert it to digital numbers on the sensor's scale"
                )

    def _say_bands(self, choice: BandChoice) -> str:
        name, bands = self.modality.name, ", ".join(self.modality.bands)
        numbers = ", ".join(str(number) for number in choice.numbers)
        word = "band" if len(choice.numbers) == 1 else "bands"
        each = "" if self.dates is None else f" of each of {len(self.dates)} acquisitions"
        alpha = "" if choice.alpha is None else f"; band {choice.alpha} is its alpha"
        return f"{name}: {bands} from {word} {numbers}{each} of {self.path.name} ({choice.reason}{alpha})"

    def _say_scale(self) -> list[str]:
        scaled = any(s != 1 for s in self._dataset.scales) or any(o != 0 for o in self._dataset.offsets)
        return [f"{self.modality.name}: the scale and offset in {self.path.name} are not applied"] if scaled else []


class MaskRaster:
    """Snow and cloud of a series in percent, for each acquisition.

    Attributes:
        grid: its pixels.
        layout: how it lies on the disk.

    Raises:
        RasterError: the file cannot be read or does not have two bands for each acquisition.
    """

    def __init__(self, path: Path, *, acquisitions: int) -> None:
        self.path = path
        self._dataset = open_raster(path)
        self.grid = grid_of(path, self._dataset)
        self.layout = BlockLayout.of(self._dataset, self.grid)
        if self._dataset.count != 2 * acquisitions:
            raise RasterError(
                f"{path} has {self._dataset.count} bands for {acquisitions} dates, expected {2 * acquisitions}: "
                "snow and cloud of each date; give the mask that belongs to the series"
            )

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    def reopen(self) -> None:
        """Open the file anew; see `RasterSource.reopen`."""
        self._dataset.close()
        self._dataset = open_raster(self.path)

    def read(self, window: Window, *, shape_yx: tuple[int, int] | None = None) -> Pixels:
        """Read a rectangle: values [T, 2, Y, X], snow first; nothing in it is void."""
        shape = shape_yx or (window.height, window.width)
        with reading(self.path):
            raw = self._dataset.read(window=window, out_shape=(self._dataset.count, *shape))
        values = raw.reshape(-1, 2, *shape)
        return Pixels(values, np.zeros((values.shape[0], *shape), np.bool_))


def _dates_of(modality: Modality, source: Source) -> NDArray[np.datetime64] | None:
    name = modality.name
    if modality.kind == "image":
        if source.dates is not None or source.mask is not None:
            raise RasterError(f"dates or a mask are given for {name}, which is one image; leave them out")
        return None
    if source.dates is None:
        raise RasterError(f"{name} has no dates, expected one for each acquisition; give --dates {name}=FILE")
    if source.mask is not None and modality.filter is None:
        raise RasterError(f"a mask is given for {name}, whose acquisitions the plan does not filter; leave it out")
    dates = read_dates(source.dates) if isinstance(source.dates, Path) else source.dates
    if not dates:
        raise RasterError(f"{name} has an empty list of dates, expected one for each acquisition")
    return np.array(dates, "datetime64[D]")


def _labels_of_one(dataset: Any, path: Path, modality: Modality, acquisitions: int) -> list[BandLabel]:
    """Labels of the bands of one acquisition, which must be those of every other."""
    if modality.kind == "image":
        colours = (ColorInterp(colour).name for colour in dataset.colorinterp)
        return [BandLabel(*label) for label in zip(dataset.descriptions, colours, strict=True)]
    bands, rest = divmod(dataset.count, acquisitions)
    if rest or not bands:
        raise RasterError(
            f"{path} has {dataset.count} bands and {acquisitions} dates, expected {len(modality.bands)} bands for each "
            "date; give one date for every acquisition in the file"
        )
    # GDAL names the colours of the first bands of any file; in a series only descriptions mean something.
    labels = [BandLabel(description, "undefined") for description in dataset.descriptions]
    first = band_names(modality, labels[:bands])
    for start in range(bands, len(labels), bands):
        names = band_names(modality, labels[start : start + bands])
        if names != first:
            raise RasterError(
                f"acquisition {start // bands + 1} of {path} holds bands {', '.join(map(str, names))}, the first holds "
                f"{', '.join(map(str, first))}; write one acquisition after the other, each with its bands in one order"
            )
    return labels[:bands]
