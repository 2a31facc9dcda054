"""A data set on disk: its splits and its dates, read and agreed before the first raster is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .dates import DateTable, dates_file, read_rows
from .errors import DataSetError
from .layout import PRODUCTS
from .splits import Split, find_split_files, in_two_splits, read_split

__all__ = ["DataSet"]


@dataclass(frozen=True)
class DataSet:
    """FLAIR-HUB, or what is laid out like it.

    Attributes:
        root: its folder.
        splits: name -> patches.
        dates: series -> dates of every patch that has it.
    """

    root: Path
    splits: Mapping[str, Split]
    dates: Mapping[str, DateTable]

    @classmethod
    def open(cls, root: Path | str, *, splits: Mapping[str, Path] | None = None) -> DataSet:
        """Read split files and dates.

        No raster is opened: `check` does that for all of them, and `read_sample` for those that are trained on.

        Args:
            root: folder that holds `D..._AERIAL_RGBI` and the others.
            splits: "train", "valid" or "test" -> split file; those in the root and right below it where left out.

        Raises:
            DataSetError: a split file or the dates of a series are missing or broken, a patch lacks its dates, or
                stands in two splits.
        """
        root = Path(root)
        files = find_split_files(root) if splits is None else splits
        read = {name: read_split(name, file) for name, file in files.items()}
        for sentence in in_two_splits(read.values()):
            raise DataSetError(sentence)
        dates = {series: _read_dates(root, series, read.values()) for series in _series_of(read.values())}
        return cls(root, read, dates)

    def split(self, name: str) -> Split:
        """The patches of one split.

        Raises:
            DataSetError: there is no split of this name.
        """
        if name not in self.splits:
            raise DataSetError(f"{self.root} has no split {name}, expected one of {', '.join(self.splits)}; choose one")
        return self.splits[name]


def _read_dates(root: Path, series: str, splits: Iterable[Split]) -> DateTable:
    file = dates_file(root, series)
    table = DateTable(file, read_rows(file))
    for sentence in table.defects:
        raise DataSetError(sentence)
    for split in splits:
        for patch in split.patches:
            if series in patch.folders:
                table.of(patch.id)
    return table


def _series_of(splits: Iterable[Split]) -> list[str]:
    held = {product for split in splits for patch in split.patches for product in patch.folders}
    return [name for name, product in PRODUCTS.items() if product.series == name and name in held]
