"""What FLAIR-HUB fixes by name: modalities, bands, statistics, classes and colours.

Source: Garioud et al., "FLAIR-HUB: large-scale multimodal dataset for land cover and crop mapping",
ISPRS J. Photogramm. Remote Sens. 237 (2026), arXiv 2506.07080, and the data set's published metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["MODALITIES", "REFERENCE_DAY", "TASKS", "TILE_EXTENT_M", "ClassFacts", "ModalityFacts", "dates_key"]

REFERENCE_DAY = "05-15"
"""Month and day from which the days of a time series are counted, in the acquisition's year."""

TILE_EXTENT_M = 102.4
"""Ground size of one training tile in metres."""


@dataclass(frozen=True)
class ModalityFacts:
    """One sensor as the data set delivers it.

    Attributes:
        kind: one image, or a series of acquisitions.
        bands: band names in the files' order.
        usual: bands the published networks take, in their order.
        dtype: NumPy name of the digital numbers.
        tile_px: side of a training tile in pixels of this sensor.
        gsd_m: pixel size on the ground in metres.
        statistics: band name -> (mean, standard deviation) of the digital numbers; empty where raw numbers enter.
    """

    kind: Literal["image", "series"]
    bands: tuple[str, ...]
    usual: tuple[str, ...]
    dtype: Literal["uint8", "uint16", "float32"]
    tile_px: int
    gsd_m: float
    statistics: MappingProxyType[str, tuple[float, float]]


def _statistics(**by_band: tuple[float, float]) -> MappingProxyType[str, tuple[float, float]]:
    return MappingProxyType(by_band)


_S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_S1_BANDS = ("VV", "VH")
_RAW = _statistics()

MODALITIES: MappingProxyType[str, ModalityFacts] = MappingProxyType(
    {
        "AERIAL_RGBI": ModalityFacts(
            "image",
            ("R", "G", "B", "NIR"),
            ("NIR", "R", "G"),
            "uint8",
            512,
            0.2,
            _statistics(R=(105.66, 52.23), G=(111.35, 45.62), B=(102.18, 44.30), NIR=(106.59, 39.78)),
        ),
        "AERIAL-RLT_PAN": ModalityFacts(
            "image", ("PAN",), ("PAN",), "uint8", 256, 0.4, _statistics(PAN=(125.92, 38.45))
        ),
        # The network's second channel is the height above ground, DSM - DTM; its statistics go by the name HEIGHT.
        "DEM_ELEV": ModalityFacts(
            "image",
            ("DSM", "DTM"),
            ("DSM", "DTM"),
            "float32",
            512,
            0.2,
            _statistics(DSM=(311.06, 537.55), HEIGHT=(311.06, 537.55)),
        ),
        "SPOT_RGBI": ModalityFacts(
            "image",
            ("R", "G", "B", "NIR"),
            ("NIR", "R", "G"),
            "uint16",
            64,
            1.6,
            _statistics(R=(433.26, 312.76), G=(508.75, 284.61), B=(467.77, 226.02), NIR=(1137.03, 543.11)),
        ),
        "SENTINEL2_TS": ModalityFacts("series", _S2_BANDS, _S2_BANDS, "uint16", 10, 10.24, _RAW),
        "SENTINEL1-ASC_TS": ModalityFacts("series", _S1_BANDS, _S1_BANDS, "float32", 10, 10.24, _RAW),
        "SENTINEL1-DESC_TS": ModalityFacts("series", _S1_BANDS, _S1_BANDS, "float32", 10, 10.24, _RAW),
    }
)
"""Modalities in the order in which every network concatenates them."""


def dates_key(modality: str) -> str:
    """Key under which a tile carries the dates of the series `modality`: `SENTINEL2_TS` -> `SENTINEL2_DATES`."""
    return f"{modality.removesuffix('_TS')}_DATES"


@dataclass(frozen=True)
class ClassFacts:
    """One class of a task: its name, its colour `#rrggbb`, and whether training and scores ignore it."""

    name: str
    colour: str
    ignored: bool = False


_LAND_COVER = (
    ClassFacts("building", "#db0e9a"),
    ClassFacts("greenhouse", "#9999ff"),
    ClassFacts("swimming pool", "#3de6eb"),
    ClassFacts("impervious surface", "#f80c00"),
    ClassFacts("pervious surface", "#938e7b"),
    ClassFacts("bare soil", "#a97101"),
    ClassFacts("water", "#1553ae"),
    ClassFacts("snow", "#ffffff"),
    ClassFacts("herbaceous vegetation", "#55ff00"),
    ClassFacts("agricultural land", "#fff30d"),
    ClassFacts("plowed land", "#e4df7c"),
    ClassFacts("vineyard", "#660082"),
    ClassFacts("deciduous", "#46e483"),
    ClassFacts("coniferous", "#194a26"),
    ClassFacts("brushwood", "#f3a60d"),
    ClassFacts("clear cut", "#8ab3a0", ignored=True),
    ClassFacts("ligneous", "#c5dc42", ignored=True),
    ClassFacts("mixed", "#6b714f", ignored=True),
    ClassFacts("undefined", "#000000", ignored=True),
)

_CROPS = (
    ClassFacts("grasses", "#8fce5a"),
    ClassFacts("wheat", "#f2d15c"),
    ClassFacts("barley", "#d9a441"),
    ClassFacts("maize", "#ff9f1c"),
    ClassFacts("other cereals", "#b98b3e"),
    ClassFacts("rice", "#5bd1d7"),
    ClassFacts("flax, hemp, tobacco", "#7c9be8"),
    ClassFacts("sunflower", "#ffe600"),
    ClassFacts("rapeseed", "#c6e000"),
    ClassFacts("other oilseed", "#a3a300"),
    ClassFacts("soy", "#3f9b45"),
    ClassFacts("other protein crops", "#6fb98f"),
    ClassFacts("fodder legumes", "#2e7d5b"),
    ClassFacts("beetroots", "#c2185b"),
    ClassFacts("potatoes", "#9c6b4f"),
    ClassFacts("other arable", "#bdb76b"),
    ClassFacts("vineyard", "#660082"),
    ClassFacts("olive groves", "#708238"),
    ClassFacts("fruit orchards", "#e5533d"),
    ClassFacts("nut orchards", "#8d5524"),
    ClassFacts("other permanent crops", "#b57edc"),
    ClassFacts("mixed crops", "#9aa5b1"),
    ClassFacts("background", "#2b2b2b"),
)

TASKS: MappingProxyType[str, tuple[ClassFacts, ...]] = MappingProxyType(
    {"AERIAL_LABEL-COSIA": _LAND_COVER, "ALL_LABEL-LPIS": _CROPS}
)
"""Tasks by the name of their label, with the classes in the order of their values."""
