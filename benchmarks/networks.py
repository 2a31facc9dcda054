"""The networks that benchmarks speak of: FLAIR-HUB's LC-F and LC-L with Swin-B and UPerNet."""

from __future__ import annotations

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.trainer.network import NetworkSpec

__all__ = ["DATES", "NETWORKS", "TASK"]

DATES = 61
"""Of every series."""

TASK = "AERIAL_LABEL-COSIA"

_RADAR = ("SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS")


def _network(*names: str) -> NetworkSpec:
    return NetworkSpec.flairhub(
        modalities={name: (len(MODALITIES[name].usual), MODALITIES[name].tile_px) for name in names},
        tasks={TASK: 19},
        encoder="swin_base_patch4_window12_384",
    )


NETWORKS = {
    "LC-F": _network("AERIAL_RGBI", "SENTINEL2_TS", *_RADAR),
    "LC-L": _network("AERIAL_RGBI", "DEM_ELEV", "SPOT_RGBI", "SENTINEL2_TS", *_RADAR),
}
"""For an aerial tile of 512 px, and what lies on the same ground."""
