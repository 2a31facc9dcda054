"""FLAIR #1, the older data set of the same photographs, laid out as FLAIR-HUB.

Its images have five bands (R, G, B, NIR, height above ground in fifths of a metre), its masks other numbers for the
same classes. Height alone is no elevation model, and is left out.

Source: Garioud et al., "FLAIR #1: semantic segmentation and domain adaptation dataset", arXiv 2211.12979.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
import rasterio
from numpy.typing import NDArray

from .data_set import DataSet
from .errors import DataSetError
from .layout import LABEL_PX, METADATA_FOLDER, PatchId, file_of
from .rasters import read_raster
from .splits import Patch, find_split_files, read_split, write_split

__all__ = ["CLASSES", "import_flair1"]

CLASSES = MappingProxyType(
    {
        1: 0,  # building
        2: 4,  # pervious surface
        3: 3,  # impervious surface
        4: 5,  # bare soil
        5: 6,  # water
        6: 13,  # coniferous
        7: 12,  # deciduous
        8: 14,  # brushwood
        9: 11,  # vineyard
        10: 8,  # herbaceous vegetation
        11: 9,  # agricultural land
        12: 10,  # plowed land
        13: 2,  # swimming pool
        14: 7,  # snow
        15: 15,  # clear cut
        16: 17,  # mixed
        17: 16,  # ligneous
        18: 1,  # greenhouse
        19: 18,  # undefined
    }
)
"""FLAIR #1's numbers of the classes -> FLAIR-HUB's."""

_IMAGE, _LABEL = "AERIAL_RGBI", "AERIAL_LABEL-COSIA"
_BANDS = 5


def import_flair1(folder: Path | str, root: Path | str, *, split: str = "train") -> DataSet:
    """Copy images and masks into a data set, which is made or grows.

    Args:
        folder: with images and masks somewhere below, under FLAIR #1's names or folders.
        root: of the data set.
        split: "train", "valid" or "test", which the patches join.

    Returns:
        The data set, opened.

    Raises:
        DataSetError: no image, one without a mask, a raster of another form, or patches that the data set has.
    """
    folder, root = Path(folder), Path(root)
    found = _pairs(folder)
    file, patches = _split_file(root, split)
    known = {patch.id for patch in patches}
    twice = [str(pair.patch) for pair in found if pair.patch in known]
    if twice:
        raise DataSetError(f"{file} lists {twice[0]} already; leave it out of {folder}, or choose another data set")
    for pair in found:
        _copy(pair, root)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    new = tuple(Patch(pair.patch, {_IMAGE: "", _LABEL: ""}) for pair in found)
    write_split(partial, (*patches, *new))
    os.replace(partial, file)
    return DataSet.open(root)


@dataclass(frozen=True)
class _Pair:
    """An image and its mask."""

    patch: PatchId
    image: Path
    mask: Path


def _pairs(folder: Path) -> list[_Pair]:
    """Images below a folder with their masks, in the order of their names."""
    found: dict[PatchId, dict[bool, Path]] = {}
    for path in sorted(folder.rglob("*.tif")):
        for patch, is_mask in _named(path.relative_to(folder)):
            found.setdefault(patch, {})[is_mask] = path
    if not found:
        raise DataSetError(f"{folder} holds no image of FLAIR #1, such as D004_2021/Z6_NU/img/IMG_000473.tif; give it")
    for patch, files in found.items():
        if len(files) < 2:
            lacking = "mask" if True not in files else "image"
            raise DataSetError(f"{next(iter(files.values()))} has no {lacking}; get it or leave {patch} out")
    return [_Pair(patch, files[False], files[True]) for patch, files in found.items()]


def _named(path: Path) -> Iterator[tuple[PatchId, bool]]:
    """The patch that a path names, and whether it is a mask; nothing for other files."""
    words = "_".join(path.with_suffix("").parts).split("_")
    for place, (domain, year) in enumerate(pairwise(words)):
        rest = words[place + 2 :]
        numbers = [word for word in rest[2:] if word.isdecimal()]
        if domain.startswith("D") and domain[1:].isalnum() and year.isdecimal() and len(year) == 4 and numbers:
            # a zone's image has a place of its own, as a region of interest of one patch
            is_mask = "MSK" in rest
            if is_mask or rest[-1] in (numbers[0], "IMG5"):
                yield PatchId(domain, year, f"{rest[1]}-{rest[0]}-{numbers[0]}", "1", "1"), is_mask
            return


def _split_file(root: Path, split: str) -> tuple[Path, tuple[Patch, ...]]:
    """The file of a split, and what it lists."""
    if root.is_dir() and any(root.iterdir()):
        files = find_split_files(root)
        if split in files:
            return files[split], read_split(split, files[split]).patches
    return root / METADATA_FOLDER / f"FLAIR-HUB_{split.upper()}.csv", ()


def _copy(pair: _Pair, root: Path) -> None:
    bands, _ = read_raster(pair.image)
    mask, _ = read_raster(pair.mask)
    for path, raster, count in ((pair.image, bands, _BANDS), (pair.mask, mask, 1)):
        if raster.shape != (count, LABEL_PX, LABEL_PX) or raster.dtype != np.uint8:
            raise DataSetError(
                f"{path} is {raster.dtype} of {' x '.join(map(str, raster.shape))}, expected uint8 of {count} x "
                f"{LABEL_PX} x {LABEL_PX}; leave it out"
            )
    table = np.full(2**8, 2**8 - 1, np.uint8)
    table[[*CLASSES]] = [*CLASSES.values()]
    strangers = np.setdiff1d(mask, [*CLASSES])
    if strangers.size:
        raise DataSetError(f"{pair.mask} holds {strangers[0]}, expected classes 1 to {len(CLASSES)}; leave it out")
    with rasterio.open(pair.image) as dataset:
        transform, crs = dataset.transform, dataset.crs
    for product, values in ((_IMAGE, bands[: _BANDS - 1]), (_LABEL, table[mask])):
        _write(root / file_of(pair.patch, product), values, transform=transform, crs=crs)


def _write(path: Path, values: NDArray[np.uint8], *, transform: rasterio.Affine, crs: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    partial = path.with_name(f".{path.name}.partial")
    with rasterio.open(
        partial,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype="uint8",
        crs=crs,
        transform=transform,
        compress="deflate",
        tiled=True,
        blockxsize=256,
        blockysize=256,
    ) as dataset:
        dataset.write(values)
    os.replace(partial, path)
