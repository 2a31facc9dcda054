"""Split files: which patches are for training, validation and test, and which rasters each has."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import DataSetError
from .layout import PRODUCTS, PatchId, file_of

__all__ = ["SPLITS", "Patch", "Split", "find_split_files", "in_two_splits", "read_split", "write_split"]

SPLITS = ("train", "valid", "test")
_ENDINGS = {"TRAIN": "train", "VALID": "valid", "VAL": "valid", "TEST": "test"}
_KEY = "patch_id"
_SEPARATORS = (",", ";")


@dataclass(frozen=True, slots=True)
class Patch:
    """One line of a split file.

    Attributes:
        id: which patch.
        folders: product that the patch has -> folder below the root where the product's folders lie; usually "", the
            root itself. There are 240,000 patches: what their names say already is not kept.
    """

    id: PatchId
    folders: Mapping[str, str]

    @property
    def files(self) -> dict[str, str]:
        """Product that the patch has -> path of its raster relative to the data set's root."""
        return {product: str(folder / file_of(self.id, product)) for product, folder in self._places()}

    def _places(self) -> Iterator[tuple[str, PurePosixPath]]:
        return ((product, PurePosixPath(folder)) for product, folder in self.folders.items())


@dataclass(frozen=True)
class Split:
    """The patches of one split file, in its order.

    Attributes:
        name: "train", "valid" or "test".
        file: where it was read from.
        patches: what it lists.
    """

    name: str
    file: Path
    patches: tuple[Patch, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains of its patches, sorted."""
        return tuple(sorted({patch.id.domain for patch in self.patches}))


def find_split_files(root: Path) -> dict[str, Path]:
    """Split files in the data set's root and in the folders right below it, by the end of their names.

    Args:
        root: the data set's folder.

    Returns:
        Split -> file, such as `FLAIR-HUB_TRAIN.csv` for "train".

    Raises:
        DataSetError: there is none, or two say the same split.
    """
    if not root.is_dir():
        raise DataSetError(f"{root} is no folder; give the folder that holds D..._AERIAL_RGBI and the others")
    found: dict[str, Path] = {}
    for path in sorted([*root.glob("*.csv"), *root.glob("*/*.csv")]):
        name = _ENDINGS.get(path.stem.split("_")[-1].upper())
        if name is None:
            continue
        if name in found:
            raise DataSetError(
                f"{found[name]} and {path} both list the split {name}, expected one; name the files to take in `splits`"
            )
        found[name] = path
    if not found:
        raise DataSetError(
            f"{root} holds no split file, expected ..._TRAIN.csv, ..._VALID.csv or ..._TEST.csv in it or in a folder "
            "right below; add one"
        )
    return {name: found[name] for name in SPLITS if name in found}


def read_split(name: str, file: Path) -> Split:
    """Read one split file.

    Its first line says `patch_id` and products, separated by `,` or `;`. A cell is a path below the root; a leading
    `../` stands for the root. An empty cell says that the patch lacks the product.

    Raises:
        DataSetError: names the file and the line that break this.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            header = opened.readline()
            columns, separator = _columns(file, header)
            rows = list(enumerate(csv.reader(opened, delimiter=separator, strict=True), start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataSetError(f"{file} cannot be read as CSV: {error}; give the split file as text") from None
    patches: dict[PatchId, Patch] = {}
    for line, row in rows:
        if not row:
            continue
        patch = _read_row(file, line, columns, row)
        if patch.id in patches:
            raise DataSetError(f"line {line} of {file} lists {patch.id} again; keep one line for each patch")
        patches[patch.id] = patch
    if not patches:
        raise DataSetError(f"{file} lists no patch; give a split file with at least one")
    return Split(name, file, tuple(patches.values()))


def _columns(file: Path, header: str) -> tuple[list[str], str]:
    for separator in _SEPARATORS:
        columns = [column.strip().strip('"') for column in header.rstrip("\r\n").split(separator)]
        if _KEY in columns and len(columns) > 1:
            break
    else:
        raise DataSetError(
            f"{file} begins with {header[:60].rstrip()!r}, expected patch_id and products separated by ',' or ';'; "
            "correct its first line"
        )
    strangers = [column for column in columns if column != _KEY and column not in PRODUCTS]
    if strangers or len(set(columns)) < len(columns):
        what = f"unknown columns {', '.join(strangers)}" if strangers else "a column twice"
        raise DataSetError(f"{file} has {what}, expected {_KEY} and some of {', '.join(PRODUCTS)}; correct them")
    return columns, separator


def _read_row(file: Path, line: int, columns: list[str], row: list[str]) -> Patch:
    if len(row) != len(columns):
        raise DataSetError(
            f"line {line} of {file} has {len(row)} cells, expected {len(columns)} as in its first line; correct it"
        )
    cells = dict(zip(columns, (cell.strip() for cell in row), strict=True))
    try:
        patch = PatchId.parse(cells.pop(_KEY))
        folders = {product: _folder(patch, product, cell) for product, cell in cells.items() if cell}
    except DataSetError as error:
        raise DataSetError(f"line {line} of {file}: {error}") from None
    return Patch(patch, {product: folders[product] for product in PRODUCTS if product in folders})


def _folder(patch: PatchId, product: str, cell: str) -> str:
    """The folder below the root that the path in a cell begins with; the rest must be that of this patch."""
    parts = list(PurePosixPath(cell).parts)
    while parts and parts[0] in ("..", "."):
        parts = parts[1:]
    expected = file_of(patch, product)
    if tuple(parts[-3:]) != expected.parts or ".." in parts or PurePosixPath(cell).is_absolute():
        raise DataSetError(f"{product} is {cell}, expected ../{expected}; correct the path")
    return sys.intern("/".join(parts[:-3]))


def in_two_splits(splits: Iterable[Split]) -> Iterator[str]:
    """A sentence for each patch that is in more than one split."""
    seen: dict[PatchId, str] = {}
    for split in splits:
        for patch in split.patches:
            other = seen.setdefault(patch.id, split.name)
            if other != split.name:
                yield f"{patch.id} is in the splits {other} and {split.name}; keep it in one"


def write_split(file: Path, patches: tuple[Patch, ...], *, separator: str = ",") -> None:
    """Write a split file as FLAIR-HUB has it; a product that a patch lacks becomes an empty cell."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, delimiter=separator, lineterminator="\n")
        products = sorted(PRODUCTS)
        writer.writerow([_KEY, *products])
        for patch in patches:
            files = patch.files
            cells = (f"../{files[product]}" if product in files else "" for product in products)
            writer.writerow([str(patch.id), *cells])
