"""Small images and parcels in the layouts that the studies read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import rasterio
from affine import Affine

from uperfuse.engine.flairhub import TASKS

WATER, BUILDING, UNDEFINED = (
    next(number for number, entry in enumerate(TASKS["AERIAL_LABEL-COSIA"]) if entry.name == name)
    for name in ("water", "building", "undefined")
)


def write_tiff(path, values) -> None:
    """Bands [C, Y, X] to a georeferenced file."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=values.shape[0],
        height=values.shape[1],
        width=values.shape[2],
        dtype=values.dtype,
        crs="EPSG:2154",
        transform=Affine(0.2, 0, 8e5, 0, -0.2, 6.5e6),
    ) as raster:
        raster.write(values)


def land(rng, *, shape_yx) -> tuple[np.ndarray, np.ndarray]:
    """Dark water above a slanting shore, bright buildings below: digital numbers [4, Y, X] and classes [Y, X]."""
    rows, columns = np.indices(shape_yx)
    water = rows + 0.3 * columns < 0.6 * shape_yx[0]
    classes = np.where(water, WATER, BUILDING).astype(np.uint8)
    level = np.where(water, 60, 160)[None] + rng.normal(0, 8, (4, *shape_yx))
    return level.clip(0, 255).astype(np.uint8), classes


def write_images(folder) -> None:
    """Two images of 48 x 128 px with their labels."""
    rng = np.random.default_rng(5)
    for name in ("D001_a", "D002_b"):
        values, classes = land(rng, shape_yx=(48, 128))
        classes[:3, :5] = UNDEFINED
        write_tiff(folder / f"{name}_AERIAL_RGBI.tif", values)
        write_tiff(folder / f"{name}_AERIAL_LABEL-COSIA.tif", classes[None])


MONTHS = np.arange("2021-09", "2023-01", dtype="datetime64[M]")
CODES = (11, 22, 33)


def parcel_table(*, seed: int = 3) -> dict[str, np.ndarray]:
    """Columns of 46 parcels of two frequent crops and two rare ones, over 16 months, in no order."""
    rng = np.random.default_rng(seed)
    codes = np.array([11] * 24 + [22] * 20 + [33, 44])
    parcel, month = (each.ravel() for each in np.indices((len(codes), len(MONTHS))))
    summer = np.cos(2 * np.pi * (month - 10) / 12)
    green = np.where(codes[parcel] == 11, 1, -1) * 400 * summer
    table = {
        "sample_id": np.array([f"p{number:03d}" for number in parcel]),
        "timestamp": MONTHS[month].astype("datetime64[ns]"),
        "ewoc_code": codes[parcel],
        "lon": 9 + 0.02 * (parcel % 23),
        "lat": 42 + 0.03 * (parcel // 23),
        "S2-L2A-B04": (1500 - green + rng.normal(0, 20, len(parcel))).astype(np.uint16),
        "S2-L2A-B08": (2500 + green + rng.normal(0, 20, len(parcel))).astype(np.uint16),
        "S2-L2A-B8A": np.full(len(parcel), 65535, np.uint16),
        "S1-SIGMA0-VV": (4000 + rng.normal(0, 100, len(parcel))).astype(np.uint16),
        "S1-SIGMA0-VH": (2000 + rng.normal(0, 50, len(parcel))).astype(np.uint16),
    }
    lost = (parcel == 7) & (month == 4)
    table["S2-L2A-B04"][lost] = 65535
    order = rng.permutation(len(parcel))
    return {name: values[order] for name, values in table.items()}


def write_parcels(path, table) -> None:
    """Columns to a Parquet file."""
    parquet.write_table(pa.table(dict(table)), path)
