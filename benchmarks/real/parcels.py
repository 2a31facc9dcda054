"""Parcels as single pixels over time: monthly Sentinel-2 and -1 values, a crop code, and a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.trainer.data import DataSetError

__all__ = ["OPTICAL", "RADAR", "Parcels", "grid_cells", "read_parcels"]

OPTICAL = "SENTINEL2_TS"
RADAR = "SENTINEL1-ASC_TS"

_PREFIXES = {OPTICAL: "S2-L2A-", RADAR: "S1-SIGMA0-"}
_NODATA = 65535
_RADAR_OFFSET_DB = 83.0
"""Backscatter is stored as 10 ^ ((dB + 83) / 20), as ESA's WorldCereal does."""
_KM_PER_DEGREE = 111.32


@dataclass(frozen=True)
class Parcels:
    """N parcels over T months.

    Attributes:
        values: series -> float32 [N, T, C]: digital numbers of Sentinel-2, decibels of Sentinel-1; NaN where a month
            has none.
        bands: series -> names of its C bands; one that no parcel has a number of is left out.
        dates: the middle of each month, datetime64[D] [T].
        labels: number of the class, int64 [N].
        classes: names of the classes; crop codes, and last, where there are any, the rare ones together.
        lon_lat: of each parcel, in degrees, [N, 2].
    """

    values: dict[str, NDArray[np.float32]]
    bands: dict[str, tuple[str, ...]]
    dates: NDArray[np.datetime64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    lon_lat: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)


def read_parcels(path: Path, *, least: int = 5) -> Parcels:
    """Read a GeoParquet file with a row for each parcel and month.

    Args:
        path: with the columns `sample_id`, `timestamp`, `ewoc_code`, `lon`, `lat`, `S2-L2A-*` and `S1-SIGMA0-*`.
        least: parcels that a class has; rarer ones become one class together.

    Raises:
        DataSetError: there is no such file, a column is lacking, or a parcel lacks a month or changes its crop.
    """
    if not path.is_file():
        raise DataSetError(f"there is no file {path}; give the GeoParquet file of parcels")
    table = parquet.read_table(path)
    needed = ["sample_id", "timestamp", "ewoc_code", "lon", "lat"]
    lacking = [name for name in needed if name not in table.column_names]
    if lacking:
        raise DataSetError(f"{path.name} lacks the columns {', '.join(lacking)}; give parcels as WorldCereal has them")
    column = {name: table[name].to_numpy() for name in needed}
    parcels, first, parcel = np.unique(column["sample_id"].astype(str), return_index=True, return_inverse=True)
    months, month = np.unique(column["timestamp"].astype("datetime64[M]"), return_inverse=True)
    shape = (len(parcels), len(months))
    if (
        len(set(zip(parcel.tolist(), month.tolist(), strict=True))) != shape[0] * shape[1]
        or len(parcel) != shape[0] * shape[1]
    ):
        raise DataSetError(
            f"{path.name} has {len(parcel)} rows for {shape[0]} parcels and {shape[1]} months, expected one for each "
            "pair; complete it"
        )
    codes = column["ewoc_code"]
    if np.any(codes != codes[first][parcel]):
        raise DataSetError(f"{path.name} has parcels whose crop changes from month to month; split them")
    values, bands = {}, {}
    for name, prefix in _PREFIXES.items():
        known = [band for band in MODALITIES[name].bands if f"{prefix}{band}" in table.column_names]
        cube = np.full((*shape, len(known)), np.nan, np.float32)
        for place, band in enumerate(known):
            numbers = table[f"{prefix}{band}"].to_numpy()
            cube[parcel, month, place] = np.where(numbers == _NODATA, np.nan, numbers.astype(np.float64))
        seen = np.array([not np.isnan(cube[..., place]).all() for place in range(len(known))], np.bool_)
        if not seen.any():
            raise DataSetError(f"{path.name} has no number of {name}; give columns {prefix}*")
        values[name] = _decibels(cube[..., seen]) if name == RADAR else cube[..., seen]
        bands[name] = tuple(band for band, is_seen in zip(known, seen.tolist(), strict=True) if is_seen)
    labels, classes = _classes(codes[first], least)
    middle = months.astype("datetime64[D]") + np.timedelta64(14, "D")
    lon_lat = np.stack([column["lon"][first], column["lat"][first]], axis=1)
    return Parcels(values, bands, middle, labels, classes, lon_lat)


def grid_cells(lon_lat: NDArray[np.float64], *, side_km: float) -> NDArray[np.int64]:
    """Number the squares of ground that parcels lie in, [N].

    Args:
        lon_lat: degrees [N, 2].
        side_km: of a square.
    """
    width = _KM_PER_DEGREE * np.cos(np.deg2rad(lon_lat[:, 1].mean()))
    cells = np.floor(lon_lat * [width, _KM_PER_DEGREE] / side_km)
    _, numbers = np.unique(cells, axis=0, return_inverse=True)
    return numbers.astype(np.int64).ravel()


def _decibels(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(divide="ignore"):
        decibels = 20 * np.log10(numbers) - np.float32(_RADAR_OFFSET_DB)
    return np.where(np.isfinite(decibels), decibels, np.nan).astype(np.float32)


def _classes(codes: NDArray[Any], least: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Numbers [N] of classes with enough parcels, in the order of their codes, and of all others together."""
    known, counts = np.unique(codes, return_counts=True)
    kept: Sequence[int] = known[counts >= least].tolist()
    number = {code: place for place, code in enumerate(kept)}
    labels = np.array([number.get(code, len(kept)) for code in codes.tolist()], np.int64)
    rare = (f"{len(known) - len(kept)} rarer crops",) if len(kept) < len(known) else ()
    return labels, (*map(str, kept), *rare)
