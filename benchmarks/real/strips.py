"""Aerial images with land cover, cut in space: the left of each to learn from, the right to be tested on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from uperfuse.engine.flairhub import MODALITIES, TASKS
from uperfuse.engine.rasters.source import Pixels
from uperfuse.trainer.data import DataSetError, PatchId, Sample

__all__ = ["IMAGE", "TASK", "Cut", "Strip", "read_strips"]

IMAGE = "AERIAL_RGBI"
TASK = "AERIAL_LABEL-COSIA"

_BANDS = len(MODALITIES[IMAGE].bands)

_CODES = {
    1: "building",
    2: "pervious surface",
    3: "impervious surface",
    4: "bare soil",
    5: "water",
    6: "coniferous",
    7: "deciduous",
    8: "brushwood",
    9: "vineyard",
    10: "herbaceous vegetation",
    11: "agricultural land",
    12: "plowed land",
    13: "swimming pool",
    14: "snow",
    15: "clear cut",
    16: "mixed",
    17: "ligneous",
    18: "greenhouse",
    19: "undefined",
}
"""Classes of FLAIR's first release, which counts from one and in another order."""


@dataclass(frozen=True)
class Cut:
    """Where images are cut, in shares of their width.

    Attributes:
        train: columns from 0 to here are learnt from.
        test: columns from here to the end are tested on; between the two lies what neither sees.
    """

    train: float = 5 / 8
    test: float = 11 / 16

    def __post_init__(self) -> None:
        if not 0 < self.train <= self.test < 1:
            raise DataSetError(
                f"images are cut at {self.train:g} and {self.test:g} of their width, expected two rising shares "
                "between 0 and 1; correct them"
            )


@dataclass(frozen=True)
class Strip:
    """One image in two parts, apart from each other.

    Attributes:
        name: of the file, without what all names end in.
        train: columns to learn from.
        test: columns to be tested on.
    """

    name: str
    train: Sample
    test: Sample


def read_strips(folder: Path, *, cut: Cut | None = None) -> list[Strip]:
    """Read and cut all images of a folder.

    Args:
        folder: with files `*AERIAL_RGBI*.tif` (R, G, B, NIR) and a `*AERIAL_LABEL-COSIA*.tif` for each; or as FLAIR
            was first released, with `*_IMG5.tif`, whose fifth band is not read, and `*_MSK_flair1codes.tif`.
        cut: where; at 5/8 and 11/16 of the width where left out.

    Raises:
        DataSetError: there are no such files, one is lacking, or two differ in size.
    """
    cut = cut or Cut()
    pairs = _pairs(folder, IMAGE, TASK) or _pairs(folder, "IMG5", "MSK_flair1codes")
    if not pairs:
        raise DataSetError(
            f"{folder} holds neither *{IMAGE}*.tif nor *IMG5*.tif; give a folder of aerial images with their labels"
        )
    return [_strip(image, label, cut) for image, label in pairs]


def _pairs(folder: Path, image: str, label: str) -> list[tuple[Path, Path]]:
    images = sorted(folder.glob(f"*{image}*.tif"))
    pairs = [(path, path.with_name(path.name.replace(image, label))) for path in images]
    lacking = [path.name for _, path in pairs if not path.exists()]
    if lacking:
        raise DataSetError(f"{folder} lacks {', '.join(lacking)}; add the labels, or take their images away")
    return pairs


def _strip(image: Path, label: Path, cut: Cut) -> Strip:
    with rasterio.open(image) as raster:
        values = raster.read(range(1, _BANDS + 1))  # [C, Y, X]
    with rasterio.open(label) as raster:
        classes = raster.read(1)  # [Y, X]
    if values.shape[1:] != classes.shape:
        raise DataSetError(
            f"{image.name} has {values.shape[1]} x {values.shape[2]} px and {label.name} {classes.shape[0]} x "
            f"{classes.shape[1]} px; give labels of the image's own size"
        )
    if IMAGE not in image.name:
        classes = _renumbered(classes, label.name)
    name = image.stem.replace(IMAGE, "").replace("IMG5", "").strip("_")
    width = values.shape[2]
    train, test = round(cut.train * width), round(cut.test * width)
    return Strip(
        name,
        _sample(name, values[..., :train], classes[:, :train]),
        _sample(name, values[..., test:], classes[:, test:]),
    )


def _renumbered(codes: NDArray[Any], name: str) -> NDArray[np.uint8]:
    numbers = {entry.name: number for number, entry in enumerate(TASKS[TASK])}
    strangers = sorted(set(np.unique(codes).tolist()) - set(_CODES))
    if strangers:
        raise DataSetError(f"{name} holds the codes {strangers}, expected 1 to {max(_CODES)}; correct the labels")
    table = np.array([0, *(numbers[_CODES[code]] for code in range(1, max(_CODES) + 1))], np.uint8)
    found: NDArray[np.uint8] = table[codes]
    return found


def _sample(name: str, values: NDArray[Any], classes: NDArray[Any]) -> Sample:
    void = np.zeros((1, *classes.shape), np.bool_)
    return Sample(
        # names of single images tell no region; of a patch only what a message says is needed
        PatchId(name, "", "", "", ""),
        {IMAGE: Pixels(np.ascontiguousarray(values[None]), void)},
        {},
        {TASK: np.ascontiguousarray(classes.astype(np.uint8))},
    )
