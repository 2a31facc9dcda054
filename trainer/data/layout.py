"""Names of FLAIR-HUB's folders and files.

`{DOMAIN}-{YEAR}_{PRODUCT}/{ROI}/{DOMAIN}-{YEAR}_{PRODUCT}_{ROI}_{ROW}-{COLUMN}.tif`. Names are split on their
separators and never matched against digits: there are regions of interest like `AA-S1-V18` and years like `195X`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ...engine.flairhub import MODALITIES, TASKS
from ...engine.simulation import MASK
from .errors import DataSetError

__all__ = [
    "DATES_FILES",
    "HISTORICAL",
    "HISTORICAL_YEAR",
    "LABEL_PX",
    "METADATA_FOLDER",
    "PRODUCTS",
    "PatchId",
    "Product",
    "file_of",
]

METADATA_FOLDER = "GLOBAL_ALL_MTD"
HISTORICAL = "AERIAL-RLT_PAN"
HISTORICAL_YEAR = "195X"
LABEL_PX = 512

DATES_FILES = {
    name: f"GLOBAL_{name.removesuffix('_TS')}_MTD_DATES.gpkg"
    for name, facts in MODALITIES.items()
    if facts.kind == "series"
}
"""Series -> name of the GeoPackage with its dates."""


@dataclass(frozen=True)
class Product:
    """One kind of raster of the data set.

    Attributes:
        bands: bands per acquisition.
        px: side in pixels.
        dtype: NumPy type of its digital numbers.
        series: the modality whose dates its acquisitions follow; None for what is seen once.
    """

    bands: int
    px: int
    dtype: np.dtype[np.generic]
    series: str | None


def _products() -> dict[str, Product]:
    products = {
        name: Product(len(facts.bands), facts.tile_px, np.dtype(facts.dtype), name if facts.kind == "series" else None)
        for name, facts in MODALITIES.items()
    }
    products[MASK] = Product(2, MODALITIES["SENTINEL2_TS"].tile_px, np.dtype("uint8"), "SENTINEL2_TS")
    # crops come as three levels of classes, of which the first is learnt
    levels = {"ALL_LABEL-LPIS": 3}
    return products | {task: Product(levels.get(task, 1), LABEL_PX, np.dtype("uint8"), None) for task in TASKS}


PRODUCTS = _products()
"""The ten rasters of a patch by name: seven modalities, the snow and cloud masks, the labels of both tasks."""


@dataclass(frozen=True, slots=True)
class PatchId:
    """A patch, FLAIR-HUB's word for a square of 102.4 m that all products cover.

    Attributes:
        domain: department, `D012`.
        year: of its aerial image.
        roi: region of interest, `AA-S1-V18`.
        row: counted in patches within the region, as written.
        column: likewise.
    """

    domain: str
    year: str
    roi: str
    row: str
    column: str

    @property
    def region(self) -> str:
        """What dates are common to: domain, year and region of interest, `D012-2019_AF-S1-27`."""
        return f"{self.domain}-{self.year}_{self.roi}"

    def __str__(self) -> str:
        return f"{self.region}_{self.row}-{self.column}"

    @classmethod
    def parse(cls, text: str) -> PatchId:
        """Read `D012-2019_AF-S1-27_5-10`.

        Raises:
            DataSetError: another form.

        Example:
            >>> PatchId.parse("D006-2020_AA-S1-V18_3-10").roi
            'AA-S1-V18'
        """
        parts = text.split("_")
        if len(parts) == 3:
            domain, dash, year = parts[0].rpartition("-")
            row, second_dash, column = parts[2].partition("-")
            if dash and second_dash and all((domain, year, parts[1], row, column)):
                return cls(domain, year, parts[1], row, column)
        raise DataSetError(
            f"{text!r} is no patch, expected DOMAIN-YEAR_ROI_ROW-COLUMN such as D012-2019_AF-S1-27_5-10; correct it"
        )


def file_of(patch: PatchId, product: str) -> PurePosixPath:
    """Path of one raster of a patch, relative to the data set's root.

    Example:
        >>> str(file_of(PatchId.parse("D012-2019_AF-S1-27_5-10"), "AERIAL-RLT_PAN"))
        'D012-195X_AERIAL-RLT_PAN/AF-S1-27/D012-195X_AERIAL-RLT_PAN_AF-S1-27_5-10.tif'
    """
    year = HISTORICAL_YEAR if product == HISTORICAL else patch.year
    folder = f"{patch.domain}-{year}_{product}"
    return PurePosixPath(folder, patch.roi, f"{folder}_{patch.roi}_{patch.row}-{patch.column}.tif")
