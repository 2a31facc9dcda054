"""What the sensors saw: the aerial image, and the seasons of Sentinel-2."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..flairhub import MODALITIES
from ..simulation import SimulatedScene
from .lettering import SMALL_PX, write
from .panels import image_panel, stretch_limits

__all__ = ["GSD_M", "View", "aerial_view", "seasons_view"]

GSD_M = MODALITIES["AERIAL_RGBI"].gsd_m
"""Size of an aerial pixel."""

_SERIES = MODALITIES["SENTINEL2_TS"]
_SHOWN = ("B08", "B04", "B03")  # infrared, red, green: fields differ most
_SEASONS = (100, 150, 200, 265)  # days of the year around which a clear acquisition is looked for
_CLOUDY_PERCENT = 1.0
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class View:
    """A panel with its title and a line about it."""

    image: Image.Image
    title: str
    line: str


def aerial_view(place: SimulatedScene, *, size_wh_px: tuple[int, int]) -> View:
    """The aerial image in natural colours, with a scale bar."""
    bands = place.images["AERIAL_RGBI"][:3]
    low, high = stretch_limits(bands, void=place.void)
    # One stretch for all bands keeps the colours of the image.
    limits = np.full(3, low.min()), np.full(3, high.max())
    image = image_panel(bands, size_wh_px=size_wh_px, void=place.void, limits=limits)
    _draw_scale_bar(image, metres_per_px=place.shape_yx_px[1] * GSD_M / size_wh_px[0])
    return View(image, "Aerial image", f"{place.acquired}, pixels of {GSD_M} m")


def seasons_view(place: SimulatedScene, *, size_wh_px: tuple[int, int]) -> View:
    """Four clear acquisitions of the year in infrared, red and green, their pixels as they are."""
    passes = place.series["SENTINEL2_TS"]
    chosen = _clear_seasons(place)
    bands = [_SERIES.bands.index(name) for name in _SHOWN]
    shots = passes.values[chosen][:, bands]  # [T, C, Y, X]
    limits = stretch_limits(shots.swapaxes(0, 1))
    width, height = size_wh_px
    columns, rows = _halves(width), _halves(height)
    image = Image.new("RGB", size_wh_px, "white")
    for number, (shot, date) in enumerate(zip(shots, passes.dates[chosen], strict=True)):
        (top, below), (left, right) = rows[number // 2], columns[number % 2]
        cells = _enlarged(shot, place, shape_yx_px=(below - top, right - left))
        quarter = image_panel(cells, size_wh_px=(right - left, below - top), limits=limits)
        draw = ImageDraw.Draw(quarter)
        write(draw, (8, quarter.height - 9), str(date), size_px=SMALL_PX, colour=_WHITE, rim=True)
        image.paste(quarter, (left, top))
    line = f"infrared, red, green; 4 of {len(passes.dates)} dates, {_SERIES.gsd_m:.0f} m"
    return View(image, "Sentinel-2", line)


def _clear_seasons(place: SimulatedScene) -> list[int]:
    """Places in the series of four acquisitions in the order of time, clear ones if there are any."""
    dates = place.series["SENTINEL2_TS"].dates
    days = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    cloudy = place.masks.max(axis=1).mean(axis=(1, 2)) > _CLOUDY_PERCENT
    chosen: list[int] = []
    for day in _SEASONS:
        distance = np.abs(days - day) + 366 * cloudy
        distance[chosen] += 2 * 366
        chosen.append(int(distance.argmin()))
    return sorted(chosen)


def _halves(length: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Both halves of a side, a thin line apart."""
    return (0, length // 2 - 1), (length // 2 + 1, length)


def _enlarged(
    cells: NDArray[np.generic], place: SimulatedScene, *, shape_yx_px: tuple[int, int]
) -> NDArray[np.generic]:
    """Cells [C, Y, X] over exactly the extent of the scene; the last ones reach beyond it."""
    rows, columns = (
        ((np.arange(size) + 0.5) / size * pixels * GSD_M / _SERIES.gsd_m).astype(np.intp)
        for size, pixels in zip(shape_yx_px, place.shape_yx_px, strict=True)
    )
    return cells[:, rows[:, None], columns[None]]


def _draw_scale_bar(image: Image.Image, *, metres_per_px: float) -> None:
    """A bar of a round length, at most a third of the image."""
    longest_m = image.width / 3 * metres_per_px
    power = 10 ** math.floor(math.log10(longest_m))
    length_m = max(step * power for step in (1, 2, 5) if step * power <= longest_m)
    left, base = 16, image.height - 16
    right = left + round(length_m / metres_per_px)
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - 1, base - 7, right + 1, base + 1), fill=(0, 0, 0))
    draw.rectangle((left, base - 6, right, base), fill=_WHITE)
    write(draw, ((left + right) / 2, base - 14), f"{length_m:g} m", colour=_WHITE, align="middle", rim=True)
