"""A scene: one place seen by every sensor of FLAIR-HUB, with the truth of both tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ..errors import TileError
from ..flairhub import MODALITIES, dates_key
from . import cameras, satellites
from .classes import UNLABELLED
from .domain import DOMAINS, Domain
from .footprint import BLOCK_PX, Footprints, cells_in
from .landscape import Landscape, build
from .light import Sun
from .noise import Grid, stream
from .satellites import Passes
from .site import choose_site

__all__ = ["MASK", "SimulatedScene", "simulate"]

MASK = "SENTINEL2_MSK-SC"
"""Key of the snow and cloud masks."""

_COVER, _CROPS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"
_GSD_M = 0.2


@dataclass(frozen=True)
class SimulatedScene:
    """One simulated place.

    Attributes:
        seed: what it was made from.
        domain: name of its region.
        shape_yx_px: its size in aerial pixels of 0.2 m.
        origin_m: easting and northing (EPSG:2154) of the north-west corner that all rasters share.
        acquired: date of the aerial image.
        images: modality -> raw digital numbers [C, Y, X], bands and types as in `flairhub.MODALITIES`.
        series: modality -> raw digital numbers [T, C, Y, X] and their dates.
        masks: snow and cloud of the Sentinel-2 series in percent, uint8 [T, 2, Y, X].
        labels: task -> classes at 0.2 m, uint8 [Y, X]; 255 where the scene is void.
        void: aerial pixels that were not photographed, bool [Y, X].
    """

    seed: int
    domain: str
    shape_yx_px: tuple[int, int]
    origin_m: tuple[float, float]
    acquired: np.datetime64
    images: Mapping[str, NDArray[np.generic]]
    series: Mapping[str, Passes]
    masks: NDArray[np.uint8]
    labels: Mapping[str, NDArray[np.uint8]]
    void: NDArray[np.bool_]

    def tile(self, row_px: int, column_px: int, tile_px: int = 512) -> dict[str, NDArray[np.generic]]:
        """Cut one square tile from every raster.

        Args:
            row_px: first row, in aerial pixels; a multiple of 256, where the pixels of all sensors begin together.
            column_px: first column, likewise.
            tile_px: side, likewise.

        Returns:
            Modality -> values, image [C, Y, X] or series [T, C, Y, X]; `..._DATES` -> datetime64[D] [T];
            `SENTINEL2_MSK-SC` -> masks [T, 2, Y, X]; task -> labels [Y, X]. The arrays are views.

        Raises:
            TileError: if the tile is not aligned or leaves the scene.

        Example:
            >>> scene = simulate(seed=7, shape_yx_px=(512, 768))
            >>> scene.tile(0, 256)["SENTINEL2_TS"].shape[1:]
            (10, 10, 10)
        """
        height, width = self.shape_yx_px
        for name, value in (("row_px", row_px), ("column_px", column_px), ("tile_px", tile_px)):
            if value < 0 or value % BLOCK_PX:
                raise TileError(f"{name} is {value}, expected a multiple of {BLOCK_PX}; choose an aligned tile")
        if not tile_px or row_px + tile_px > height or column_px + tile_px > width:
            raise TileError(
                f"tile of {tile_px} px at row {row_px}, column {column_px} leaves the scene of {height} x {width} px; "
                "choose one within it"
            )
        corner = row_px, column_px, tile_px
        cut: dict[str, NDArray[np.generic]] = {name: _cut(a, name, *corner) for name, a in self.images.items()}
        for name, passes in self.series.items():
            cut[name] = _cut(passes.values, name, *corner)
            cut[dates_key(name)] = passes.dates
        cut[MASK] = _cut(self.masks, "SENTINEL2_TS", *corner)
        for task, label in self.labels.items():
            cut[task] = _cut(label, "AERIAL_RGBI", *corner)
        return cut


def _cut(raster: NDArray[np.generic], modality: str, row_px: int, column_px: int, tile_px: int) -> NDArray[np.generic]:
    """Cut the square from a raster of `modality`, whose pixels count 512 to its own tile's side."""
    row, column, side = (value * MODALITIES[modality].tile_px // 512 for value in (row_px, column_px, tile_px))
    return raster[..., row : row + side, column : column + side]


def simulate(
    seed: int,
    *,
    shape_yx_px: tuple[int, int] = (512, 512),
    domain: Domain = DOMAINS["gascogne"],
    void_corner: bool = False,
    year: int | None = None,
) -> SimulatedScene:
    """Simulate one place and all its images.

    The same seed, size, domain and year give the same scene.

    Args:
        seed: chance of everything, >= 0.
        shape_yx_px: height and width in aerial pixels of 0.2 m; need not be a multiple of a tile.
        domain: region, one of `DOMAINS` or your own.
        void_corner: leave one corner of the aerial image without pixels, as at the end of a flight line.
        year: of the aerial image and the series; drawn from the seed where left out.

    Returns:
        The scene.

    Example:
        >>> scene = simulate(seed=7, shape_yx_px=(300, 470))
        >>> scene.images["AERIAL_RGBI"].shape, scene.images["SPOT_RGBI"].shape
        ((4, 300, 470), (4, 38, 59))
    """
    height, width = shape_yx_px
    blocks = -(-height // BLOCK_PX), -(-width // BLOCK_PX)
    grid = Grid((blocks[0] * BLOCK_PX, blocks[1] * BLOCK_PX), _GSD_M)
    rng = stream(seed, "scene")
    site = choose_site(seed, domain, grid.extent_yx_m)
    landscape = build(site, grid)
    drawn_year = int(rng.integers(2018, 2023))
    year = drawn_year if year is None else year
    day = float(rng.integers(166, 236)) + 0.4 * domain.season_days
    sun = Sun(float(np.radians(rng.uniform(135, 195))), float(np.radians(rng.uniform(44, 58))))
    east, north = domain.origin_m
    void = _void(Grid(shape_yx_px, _GSD_M), rng) if void_corner else np.zeros(shape_yx_px, bool)
    images = _photograph(landscape, domain, day, sun, seed)
    images["AERIAL-RLT_PAN"] = _old_photograph(seed, domain, grid)
    images["AERIAL_RGBI"][:, np.pad(void, [(0, grid.shape_yx[0] - height), (0, grid.shape_yx[1] - width)])] = 0
    series, masks = _satellites(landscape, domain, year, seed)
    labels = {_COVER: landscape.cover, _CROPS: landscape.crop}
    rows, columns = cells_in(height), cells_in(width)
    return SimulatedScene(
        seed=seed,
        domain=domain.name,
        shape_yx_px=shape_yx_px,
        origin_m=(east + 512.0 * int(rng.integers(-20, 20)), north + 512.0 * int(rng.integers(-20, 20))),
        acquired=np.datetime64(f"{year}-01-01") + int(day) - 1,
        images=MappingProxyType(
            {name: _crop(images[name], name, shape_yx_px) for name in MODALITIES if name in images}
        ),
        series=MappingProxyType({n: Passes(p.values[..., :rows, :columns], p.dates) for n, p in series.items()}),
        masks=masks[..., :rows, :columns],
        labels=MappingProxyType(
            {task: np.where(void, UNLABELLED, a[:height, :width]).astype(np.uint8) for task, a in labels.items()}
        ),
        void=void,
    )


def _crop(image: NDArray[np.generic], modality: str, shape_yx_px: tuple[int, int]) -> NDArray[np.generic]:
    """Keep the pixels of `modality` that cover the scene, rounded up."""
    height, width = (-(-size * MODALITIES[modality].tile_px // 512) for size in shape_yx_px)
    return image[:, :height, :width]


def _photograph(
    landscape: Landscape, domain: Domain, day: float, sun: Sun, seed: int
) -> dict[str, NDArray[np.generic]]:
    light = cameras.illumination(landscape, sun)
    rng = stream(seed, "SPOT_RGBI")
    return {
        "AERIAL_RGBI": cameras.aerial(landscape, light, domain, day, stream(seed, "AERIAL_RGBI")),
        "DEM_ELEV": cameras.elevation(landscape, stream(seed, "DEM_ELEV")),
        "SPOT_RGBI": cameras.spot(landscape, light, float(rng.uniform(100, 260)), rng),
    }


def _old_photograph(seed: int, domain: Domain, grid: Grid) -> NDArray[np.uint8]:
    coarse = Grid((grid.shape_yx[0] // 2, grid.shape_yx[1] // 2), 2 * _GSD_M)
    past = build(choose_site(seed, domain, coarse.extent_yx_m), coarse, modern=False)
    rng = stream(seed, "AERIAL-RLT_PAN")
    sun = Sun(float(np.radians(rng.uniform(120, 220))), float(np.radians(rng.uniform(35, 55))))
    return cameras.panchromatic(past, cameras.illumination(past, sun), float(rng.uniform(150, 250)), rng)


def _satellites(
    landscape: Landscape, domain: Domain, year: int, seed: int
) -> tuple[dict[str, Passes], NDArray[np.uint8]]:
    footprints = Footprints(landscape.entity)
    rng = stream(seed, "SENTINEL2_TS")
    dates = satellites.sentinel2_dates(year, rng)
    optical, masks = satellites.sentinel2(landscape, footprints, dates, domain, rng)
    series = {"SENTINEL2_TS": optical}
    # Ascending passes look east and come on one track, descending ones look west and come on two.
    for name, tracks, azimuth in (("SENTINEL1-ASC_TS", (2,), 80.0), ("SENTINEL1-DESC_TS", (0, 4), 280.0)):
        passes, track = satellites.radar_dates(year, tracks)
        series[name] = satellites.sentinel1(
            landscape, footprints, passes, track, stream(seed, name), look_azimuth=float(np.radians(azimuth))
        )
    return series, masks


def _void(grid: Grid, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the corner beyond the end of a slanted flight line, bool [Y, X]."""
    y, x = grid.axes()
    height, width = grid.extent_yx_m
    share = float(rng.uniform(0.12, 0.2))
    beyond: NDArray[np.bool_] = (1 - x / np.float32(width)) / share + y / np.float32(height) / (1.6 * share) < 1
    return beyond
