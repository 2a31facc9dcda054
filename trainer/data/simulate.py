"""A data set of the simulated world in FLAIR-HUB's layout, from a seed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product as every
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.flairhub import MODALITIES, TILE_EXTENT_M
from ...engine.simulation import MASK, SimulatedScene, simulate
from ...engine.simulation.noise import Grid, stream
from ...engine.simulation.write import write_raster
from . import blemishes
from .blemishes import Absences
from .data_set import DataSet
from .dates import Dates, write_dates
from .errors import DataSetError
from .layout import DATES_FILES, LABEL_PX, METADATA_FOLDER, PRODUCTS, PatchId, file_of
from .splits import Patch, write_split
from .variety import SimulatedDomain, draw_domains

__all__ = ["simulate_data_set"]

_SIDE = 2
"""Patches along the side of a region of interest."""

_PER_DOMAIN = 2
_MOST_DOMAINS = (58, 16)
"""Regions of interest in a domain, until there are as many domains, for training and test, as FLAIR-HUB has."""

_TEST_SHARE = 0.22
_VALID_SHARE = 0.2
_SPACING_M = 2048
_COVER, _CROPS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"
_LANDSCAPES = "AFNU"  # fields, woods, nature, villages: the letters of real regions of interest


@dataclass(frozen=True)
class _Place:
    """A region of interest to be simulated: its number, its domain, the splits of its patches, and what it lacks."""

    number: int
    roi: str
    domain: SimulatedDomain
    splits: tuple[str, ...]
    absences: Absences


def simulate_data_set(
    out: Path | str,
    *,
    patches: int,
    seed: int,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> DataSet:
    """Write all ten rasters of some simulated patches, split files and dates, as FLAIR-HUB has them.

    Validation patches lie among those of training; test patches in domains of their own. Some places lack sensors or
    crop labels, some series have holes or no clear date, labels miss borders by half a metre.

    Args:
        out: folder to make; it gets its name when it is complete.
        patches: how many, at least 4.
        seed: chance of everything; the same numbers give the same files.
        workers: processes that simulate.
        progress: told the number of patches that are written, and of all, after some.

    Returns:
        The data set, opened.

    Raises:
        DataSetError: fewer than 4 patches, or the folder is there already.
    """
    out = Path(out)
    if patches < 4:  # one for each split, and one more to learn from
        raise DataSetError(f"{patches} patches do not make a data set, expected at least 4; ask for more")
    if out.exists():
        raise DataSetError(f"{out} is there already; choose another folder or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}")
    part.mkdir()
    made: dict[str, list[_Made]] = {"train": [], "valid": [], "test": []}
    try:
        for region in _made(_places(seed, patches), part, seed, workers):
            for each in region:
                made[each.split].append(each)
            progress(sum(map(len, made.values())), patches)
        _write_tables(part, made)
        part.rename(out)
    except BaseException:  # whatever stops it, nothing stays that is not complete
        shutil.rmtree(part, ignore_errors=True)
        raise
    return DataSet.open(out)


@dataclass(frozen=True)
class _Made:
    """A patch that is on disk."""

    split: str
    patch: Patch
    dates: dict[str, Dates]
    centre_m: tuple[float, float]


def _places(seed: int, patches: int) -> list[_Place]:
    """Regions of interest of all domains, with the split of each of their patches."""
    rng = stream(seed, "places")
    tested = max(1, round(_TEST_SHARE * patches))
    validated = max(1, round(_VALID_SHARE * (patches - tested)))
    splits = np.array(["train"] * (patches - tested - validated) + ["valid"] * validated)
    learnt, unseen = rng.permutation(splits).tolist(), ["test"] * tested
    counts = [-(-len(group) // _SIDE**2) for group in (learnt, unseen)]
    trained, others = (min(-(-count // _PER_DOMAIN), most) for count, most in zip(counts, _MOST_DOMAINS, strict=True))
    domains = draw_domains(seed, trained=trained, unseen=others)
    absences = blemishes.draw_absences(sum(counts), rng)
    places: list[_Place] = []
    for group, owners in zip((learnt, unseen), domains, strict=True):
        for start in range(0, len(group), _SIDE**2):
            number = len(places)
            letters = "".join(rng.choice(list(_LANDSCAPES), 2).tolist())
            # some real names have a letter before their number
            roi = f"{letters}-S{1 + number % 2}-{'V' if number % 4 == 1 else ''}{number + 1}"
            owner = owners[(start // _SIDE**2) % len(owners)]
            places.append(_Place(number, roi, owner, tuple(group[start : start + _SIDE**2]), absences[number]))
    return places


def _made(places: list[_Place], out: Path, seed: int, workers: int) -> Iterator[list[_Made]]:
    make = partial(_make_place, out=out, seed=seed)
    if workers == 1:
        yield from map(make, places)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(make, places)


def _make_place(place: _Place, *, out: Path, seed: int) -> list[_Made]:
    """Simulate one region of interest and write its patches."""
    rng = stream(seed, "place", place.number)
    scene = simulate(
        int(rng.integers(2**31)),
        shape_yx_px=(_SIDE * LABEL_PX, _SIDE * LABEL_PX),
        domain=place.domain.country,
        year=place.domain.year,
    )
    rasters = _spoiled(scene, rng, never_clear=place.absences.never_clear)
    east, north = place.domain.country.origin_m
    east += _SPACING_M * place.number
    made = []
    for (row, column), split in zip(every(range(_SIDE), repeat=2), place.splits, strict=False):
        patch = PatchId(place.domain.name, str(place.domain.year), place.roi, str(row + 1), str(column + 1))
        corner = east + column * TILE_EXTENT_M, north - row * TILE_EXTENT_M
        held = [product for product in PRODUCTS if product not in place.absences.products]
        for product in held:
            path = out / file_of(patch, product)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, product, rasters, (row, column), corner)
        centre = corner[0] + TILE_EXTENT_M / 2, corner[1] - TILE_EXTENT_M / 2
        dates = {name: rasters.dates[name] for name in rasters.dates if name in held}
        made.append(_Made(split, Patch(patch, dict.fromkeys(held, "")), dates, centre))
    return made


@dataclass(frozen=True)
class _Rasters:
    """Rasters of a region of interest, [C, Y, X] or [T, C, Y, X], and dates of its series."""

    values: dict[str, NDArray[np.generic]]
    dates: dict[str, Dates]


def _spoiled(scene: SimulatedScene, rng: np.random.Generator, *, never_clear: bool) -> _Rasters:
    """A scene as it would reach a data set."""
    values: dict[str, NDArray[np.generic]] = dict(scene.images)
    dates: dict[str, Dates] = {}
    for name, passes in scene.series.items():
        kept = blemishes.lose_passes(passes, rng)
        delivered = passes.values[kept]
        optical = name == PRODUCTS[MASK].series
        if optical:
            masks = scene.masks[kept]
            delivered, values[MASK] = blemishes.hide(delivered, masks) if never_clear else (delivered, masks)
        values[name] = blemishes.cut_swaths(delivered, void=0 if optical else np.nan, rng=rng)
        dates[name] = passes.dates[kept]
    grid = Grid(scene.shape_yx_px, MODALITIES["AERIAL_RGBI"].gsd_m)
    cover = blemishes.mark_unclear(scene.labels[_COVER], grid=grid, rng=rng)
    values[_COVER] = blemishes.blur_borders(cover, grid=grid, metres=0.4, rng=rng)[None]
    crops = blemishes.blur_borders(scene.labels[_CROPS], grid=grid, metres=0.8, rng=rng)
    values[_CROPS] = blemishes.three_levels(crops)
    return _Rasters(values, dates)


def _write(path: Path, product: str, rasters: _Rasters, place: tuple[int, int], corner_m: tuple[float, float]) -> None:
    facts = PRODUCTS[product]
    top, left = (index * facts.px for index in place)
    values = rasters.values[product][..., top : top + facts.px, left : left + facts.px]
    names = _band_names(product)
    if facts.series is not None:
        days = [str(day).replace("-", "") for day in rasters.dates[facts.series]]
        names = tuple(f"{day}_{name}" for day in days for name in names)
    write_raster(
        path,
        np.ascontiguousarray(values).reshape(-1, facts.px, facts.px),
        origin_m=corner_m,
        gsd_m=TILE_EXTENT_M / facts.px,
        bands=names,
        nodata=0 if product == PRODUCTS[MASK].series else None,
    )


def _band_names(product: str) -> tuple[str, ...]:
    if product in MODALITIES:
        return MODALITIES[product].bands
    if product == MASK:
        return ("snow", "cloud")
    return tuple(f"level {number + 1}" for number in range(PRODUCTS[product].bands))


def _write_tables(out: Path, made: dict[str, list[_Made]]) -> None:
    folder = out / METADATA_FOLDER
    folder.mkdir()
    for split, patches in made.items():
        write_split(folder / f"FLAIR-HUB_{split.upper()}.csv", tuple(each.patch for each in patches))
    everyone = [each for patches in made.values() for each in patches]
    for series, name in DATES_FILES.items():
        rows = {str(each.patch.id): each.dates[series] for each in everyone if series in each.dates}
        if rows:
            centres = {str(each.patch.id): each.centre_m for each in everyone}
            write_dates(folder / name, rows, centres_m=centres)
