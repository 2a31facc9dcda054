"""From what a user hands to `predict` to one checked record per tile.

Nothing is computed here: every axis, type and count is compared with the plan, and what does not fit is refused
with the modality, the axis, what came and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device_array import DeviceArray, as_device_array
from .errors import TileError
from .flairhub import dates_key
from .plan.manifest import Manifest
from .plan.network import Modality
from .series import days_from_reference

__all__ = ["ImageTile", "SeriesTile", "Tile", "check_tiles"]


@dataclass(frozen=True)
class ImageTile:
    """Digital numbers [C, Y, X] of one image, on the host or a device, and, where known, its void pixels [Y, X]."""

    pixels: NDArray[Any] | DeviceArray
    void: NDArray[np.bool_] | None


@dataclass(frozen=True)
class SeriesTile:
    """Digital numbers [T, C, Y, X] of one series, its days from the reference date [T], its void pixels [T, Y, X]."""

    pixels: NDArray[Any]
    days: NDArray[np.float32]
    void: NDArray[np.bool_] | None


Tile = Mapping[str, "ImageTile | SeriesTile"]
"""One tile: modality -> record."""


def check_tiles(
    tiles: Mapping[str, Any], *, manifest: Manifest, voids: Mapping[str, Any] | None = None, primed: Sequence[str] = ()
) -> list[Tile]:
    """Split a batch into tiles, refusing what does not fit the plan.

    Args:
        tiles: modality -> array, and `<SERIES>_DATES` -> dates; see `Engine.predict`.
        manifest: what the plan takes.
        voids: modality -> boolean array, True where a pixel is void.
        primed: modalities whose features are known already and must not be given again.

    Returns:
        One record per tile. A modality that may be absent and was not given is missing from the record.

    Raises:
        TileError: names modality, axis, got and expected.
    """
    voids = {} if voids is None else voids
    for what, given in (("tiles", tiles), ("voids", voids)):
        if not isinstance(given, Mapping):
            raise TileError(f"{what} are a {type(given).__name__}, expected a mapping of modality to array")
    _check_names(tiles, voids, manifest, primed)
    batches: dict[str, list[ImageTile] | list[SeriesTile]] = {}
    for modality in manifest.modalities:
        if modality.name not in tiles:
            continue
        void = voids.get(modality.name)
        if modality.kind == "image":
            batches[modality.name] = _images(modality, tiles[modality.name], void)
        else:
            batches[modality.name] = _series(modality, tiles[modality.name], tiles.get(dates_key(modality.name)), void)
    sizes = {name: len(batch) for name, batch in batches.items()}
    if len(set(sizes.values())) > 1:
        raise TileError(f"modalities have different batch sizes {sizes}; give the same number of tiles for each")
    count = next(iter(sizes.values()), 0)
    return [{name: batch[index] for name, batch in batches.items()} for index in range(count)]


def _check_names(tiles: Mapping[str, Any], voids: Mapping[str, Any], manifest: Manifest, primed: Sequence[str]) -> None:
    names = [modality.name for modality in manifest.modalities]
    series = [modality.name for modality in manifest.modalities if modality.kind == "series"]
    known = {*names, *(dates_key(name) for name in series)}
    unknown = sorted(str(name) for name in set(tiles) - known)
    if unknown:
        raise TileError(
            f"tiles hold {', '.join(unknown)}, expected some of {', '.join(sorted(known))}; remove or rename them"
        )
    stray = sorted(str(name) for name in set(voids) - (set(tiles) & set(names)))
    if stray:
        raise TileError(
            f"voids hold {', '.join(stray)}, no modality of the tiles; give voids only for modalities that are given"
        )
    again = sorted(set(primed) & set(tiles))
    if again:
        raise TileError(f"tiles hold {', '.join(again)}, which is primed already; leave it out or prime again")
    for modality in manifest.modalities:
        missing = modality.name not in tiles and modality.name not in primed
        if missing and not modality.may_be_absent:
            raise TileError(
                f"tiles lack {modality.name}, and the plan never learnt to do without it; give it, "
                "or use a plan trained with modality dropout"
            )
    if not set(tiles) & set(names) and not primed:
        raise TileError(f"tiles are empty, expected at least one of {', '.join(names)}")
    for name in series:
        if dates_key(name) in tiles and name not in tiles:
            raise TileError(f"tiles hold {dates_key(name)} without {name}; give both or neither")


def _images(modality: Modality, given: Any, void: Any) -> list[ImageTile]:
    pixels: NDArray[Any] | DeviceArray = as_device_array(given, what=modality.name) or _numeric(modality, given)
    if pixels.ndim == 3:
        pixels = pixels.stacked() if isinstance(pixels, DeviceArray) else pixels[None]
        void = None if void is None else np.asarray(void)[None] if np.ndim(void) == 2 else void
    if pixels.ndim != 4:
        raise TileError(f"{modality.name} has shape {pixels.shape}, expected [B, C, Y, X] or [C, Y, X]")
    _check_dtype(modality, pixels.dtype)
    _check_axes(modality, pixels.shape[1:])
    masks = _void(modality, void, (pixels.shape[0], *pixels.shape[2:]))
    return [ImageTile(pixels[index], None if masks is None else masks[index]) for index in range(pixels.shape[0])]


def _series(modality: Modality, given: Any, dates: Any, void: Any) -> list[SeriesTile]:
    key = dates_key(modality.name)
    if dates is None:
        raise TileError(f"{modality.name} comes without dates; give them under {key}, one array [T] per tile")
    one = getattr(given, "ndim", None) == 4
    batch = [given] if one else _entries(modality.name, given)
    single_dates = one and not (isinstance(dates, (list, tuple)) and dates and np.ndim(dates[0]) == 1)
    all_days = [dates] if single_dates and np.ndim(dates) == 1 else _entries(key, dates)
    all_voids: list[Any] = [None] * len(batch)
    if void is not None:
        all_voids = [void] if one and np.ndim(void) == 3 else _entries(f"voids of {modality.name}", void)
    for what, values in ((key, all_days), (f"voids of {modality.name}", all_voids)):
        if len(values) != len(batch):
            raise TileError(
                f"{what} has {len(values)} entries, {modality.name} has {len(batch)} tiles; give one for each"
            )
    return [_one_series(modality, *record) for record in zip(batch, all_days, all_voids, strict=True)]


def _one_series(modality: Modality, given: Any, dates: Any, void: Any) -> SeriesTile:
    pixels = _numeric(modality, given)
    if pixels.ndim != 4:
        raise TileError(f"a tile of {modality.name} has shape {pixels.shape}, expected [T, C, Y, X]")
    _check_dtype(modality, pixels.dtype)
    _check_axes(modality, pixels.shape[1:])
    assert modality.reference_day is not None
    try:
        days = days_from_reference(dates, reference_day=modality.reference_day)
    except TileError as error:
        raise TileError(f"{dates_key(modality.name)}: {error}") from None
    if len(days) != len(pixels):
        raise TileError(
            f"{modality.name} has {len(pixels)} acquisitions on axis T and {len(days)} dates; give one date for each"
        )
    mask = _void(modality, void, (pixels.shape[0], *pixels.shape[2:]))
    return SeriesTile(pixels, days, mask)


def _entries(what: str, given: Any) -> list[Any]:
    """One entry per tile of the batch."""
    if isinstance(given, (str, bytes, Mapping)) or not hasattr(given, "__len__") or getattr(given, "ndim", 1) == 0:
        raise TileError(f"{what} is a {type(given).__name__}, expected a list with one array per tile")
    return list(given)


def _numeric(modality: Modality, given: Any) -> NDArray[Any]:
    parts = given if isinstance(given, (list, tuple)) else [given]
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        raise TileError(
            f"{modality.name} is a masked array, whose mask would be lost; give its .data, and its mask in "
            f"voids[{modality.name!r}]"
        )
    try:
        pixels = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TileError(f"{modality.name} is not an array: {error}; give one NumPy array per tile or batch") from error
    if pixels.dtype.kind not in "uif":
        raise TileError(f"{modality.name} is of type {pixels.dtype}, expected {modality.dtype} digital numbers")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _check_dtype(modality: Modality, dtype: np.dtype[Any]) -> None:
    if dtype != np.dtype(modality.dtype):
        raise TileError(
            f"{modality.name} is of type {dtype}, expected {modality.dtype}; if its numbers are on the sensor's scale, "
            f"convert them with .astype('{modality.dtype}')"
        )


def _check_axes(modality: Modality, shape: tuple[int, ...]) -> None:
    expected = (len(modality.bands), modality.tile_px, modality.tile_px)
    for axis, got, wanted in zip("CYX", shape, expected, strict=True):
        if got != wanted:
            what = f"bands {', '.join(modality.bands)}" if axis == "C" else f"tiles of {wanted} x {wanted} px"
            raise TileError(f"{modality.name} has {got} on axis {axis}, expected {wanted}; the plan takes {what}")


def _void(modality: Modality, void: Any, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if void is None:
        return None
    try:
        mask = np.asarray(void)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TileError(f"voids of {modality.name} are not an array: {error}; give bool of shape {shape}") from error
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise TileError(
            f"voids of {modality.name} are {mask.dtype} of shape {mask.shape}, expected bool of shape {shape}"
        )
    return mask
