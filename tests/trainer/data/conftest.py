"""Small data sets to break."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from uperfuse.trainer.data import Patch
from uperfuse.trainer.data.layout import DATES_FILES, METADATA_FOLDER
from uperfuse.trainer.data.splits import write_split


@dataclass(frozen=True)
class Breakable:
    """A data set of one patch that a test may break.

    Attributes:
        root: its folder.
        patch: its only line.
        csv: its split file.
    """

    root: Path
    patch: Patch
    csv: Path

    def file(self, product: str) -> Path:
        return self.root / self.patch.files[product]

    def dates(self, series: str) -> Path:
        return self.root / METADATA_FOLDER / DATES_FILES[series]


@pytest.fixture
def breakable(data_set, tmp_path) -> Breakable:
    """A copy of one patch that has everything."""
    patch = next(patch for patch in data_set.split("train").patches if len(patch.files) == 10)
    root = tmp_path / "root"
    for file in patch.files.values():
        (root / file).parent.mkdir(parents=True)
        shutil.copy(data_set.root / file, root / file)
    (root / METADATA_FOLDER).mkdir()
    for name in DATES_FILES.values():
        shutil.copy(data_set.root / METADATA_FOLDER / name, root / METADATA_FOLDER / name)
    csv = root / METADATA_FOLDER / "FLAIR-HUB_TRAIN.csv"
    write_split(csv, (patch,))
    return Breakable(root, patch, csv)


@pytest.fixture
def copy_of(breakable) -> Callable[..., None]:
    """Rewrite one of its rasters with other pixels or another profile."""
    import rasterio

    def rewrite(product: str, change=lambda values: values, **profile) -> None:
        path = breakable.file(product)
        with rasterio.open(path) as dataset:
            values, kept = change(dataset.read()), dict(dataset.profile)
        kept |= {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype.name}
        kept |= {"predictor": 1} | profile
        path.unlink()
        with rasterio.open(path, "w", **kept) as dataset:
            dataset.write(values)

    return rewrite
