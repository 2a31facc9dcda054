"""From files to a sample, by the engine's own rules of what is void and which numbers fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from ...engine.flairhub import MODALITIES
from ...engine.rasters.digital_numbers import cast, missing_pixels
from ...engine.rasters.source import Pixels
from ...engine.simulation import MASK
from .dates import Dates, DateTable
from .errors import DataSetError
from .labels import FLAIRHUB_LABELS, LabelRule
from .layout import PRODUCTS
from .rasters import read_raster
from .sample import UNLABELLED, Sample, Series
from .splits import Patch

__all__ = ["read_label", "read_pixels", "read_sample"]


def read_sample(
    root: Path,
    patch: Patch,
    *,
    dates: Mapping[str, DateTable],
    modalities: Iterable[str] = tuple(MODALITIES),
    tasks: Mapping[str, LabelRule] = FLAIRHUB_LABELS,
) -> Sample:
    """Read rasters of one patch.

    Args:
        root: the data set's folder.
        patch: a line of its split file.
        dates: series -> dates, as `DataSet` holds them.
        modalities: those to read; one that the patch lacks is left out.
        tasks: task -> its labels, likewise.

    Raises:
        DataSetError: a file is missing, damaged, or not what its product is: bands, size, type, number of
            acquisitions, classes.
    """
    files = {product: root / file for product, file in patch.files.items()}
    images: dict[str, Pixels] = {}
    series: dict[str, Series] = {}
    with rasterio.Env():  # one for ten files
        for name in modalities:
            if name not in files:
                continue
            if PRODUCTS[name].series is None:
                images[name] = read_pixels(files[name], name)
                continue
            when = dates[name].of(patch.id)
            mask = None
            if name == PRODUCTS[MASK].series and MASK in files:
                mask = read_pixels(files[MASK], MASK, dates=when)
            series[name] = Series(read_pixels(files[name], name, dates=when), when, mask)
        labels = {task: read_label(files[rule.product], rule) for task, rule in tasks.items() if rule.product in files}
    return Sample(patch.id, images, series, labels)


def read_pixels(path: Path, product: str, *, dates: Dates | None = None) -> Pixels:
    """Read one raster whole.

    Args:
        path: its file.
        product: what it should be.
        dates: of a series, the dates that its acquisitions must be as many as.

    Returns:
        Digital numbers [T, C, Y, X], T being 1 for an image, 0 where void; and void pixels [T, Y, X].

    Raises:
        DataSetError: as `read_sample`.
    """
    raw, nodata = read_raster(path)
    expected = PRODUCTS[product]
    acquisitions = _acquisitions(path, product, len(raw), dates)
    _check_shape(path, product, raw.shape)
    kinds = "uif" if expected.dtype.kind == "f" else "ui"
    if raw.dtype.kind not in kinds:
        raise DataSetError(f"{path} is of type {raw.dtype}, expected {expected.dtype} for {product}; convert it")
    stacked = raw.reshape(acquisitions, expected.bands, *raw.shape[1:])
    void = _void(stacked, nodata, expected.dtype)
    try:
        return Pixels(cast(stacked, void=void, target=expected.dtype), void)
    except ValueError as error:
        raise DataSetError(f"{path}: {error}; get it anew or correct it") from None


def read_label(path: Path, rule: LabelRule) -> NDArray[np.uint8]:
    """Read the labels of one task, of several levels the first.

    Returns:
        Classes [Y, X] uint8; `UNLABELLED` where the file is void.

    Raises:
        DataSetError: as `read_sample`; or a value that is no class of the task.
    """
    pixels = read_pixels(path, rule.product)
    values = pixels.values[0, 0]
    classes, known = rule.table()
    wrong = ~known[values] & ~pixels.void[0]
    if wrong.any():
        found = ", ".join(str(value) for value in np.unique(values[wrong])[:4])
        named = f"classes 0 to {len(rule.classes) - 1}" if rule.values is None else f"one of {sorted(rule.values)}"
        raise DataSetError(
            f"{path} holds {found} in {int(wrong.sum())} pixels, expected {named} of {rule.product}; "
            "correct them or declare them as nodata"
        )
    label: NDArray[np.uint8] = np.where(pixels.void[0], np.uint8(UNLABELLED), classes[values])
    return label


def _void(values: NDArray[Any], nodata: float | None, target: np.dtype[Any]) -> NDArray[np.bool_]:
    """Void pixels [T, Y, X] of [T, C, Y, X]; dates lie below each other, so that bands are gone through once."""
    dates, bands, height, width = values.shape
    column = values.transpose(1, 0, 2, 3).reshape(1, bands, dates * height, width)
    return missing_pixels(column, nodata=[nodata] * bands, target=target).reshape(dates, height, width)


def _acquisitions(path: Path, product: str, bands: int, dates: Dates | None) -> int:
    expected = PRODUCTS[product]
    acquisitions = 1 if dates is None else len(dates)
    if bands != acquisitions * expected.bands:
        what = f"{expected.bands} bands" if dates is None else f"{acquisitions} dates of {expected.bands} bands"
        raise DataSetError(f"{path} has {bands} bands, expected {what} for {product}; get it anew or correct its dates")
    return acquisitions


def _check_shape(path: Path, product: str, shape: tuple[int, ...]) -> None:
    side = PRODUCTS[product].px
    if shape[1:] != (side, side):
        raise DataSetError(
            f"{path} has {shape[1]} x {shape[2]} px, expected {side} x {side} for {product}; get it anew"
        )
