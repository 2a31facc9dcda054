"""Sides of tiles: of every sensor in its own pixels, and of the maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...engine.errors import CheckpointError
from ...engine.flairhub import MODALITIES
from ..network import NetworkSpec
from .config import ModalityConfig

__all__ = ["label_side", "padded_stages", "tile_sides"]

_LABEL_PX = 512
_MOST_TILE_PX = 4_096
_MOST_LABEL_PX = 16_384
_LEAST_SERIES_PX = 2
_COARSEST = 32


def tile_sides(spec: NetworkSpec, *, said: Mapping[str, ModalityConfig], tile_px: int | None) -> dict[str, int]:
    """Side of a tile of every modality, in its own pixels.

    A modality whose training tile nobody told covers the same ground as the first one's.

    Args:
        spec: modalities of the network.
        said: the user's words; the sides of training tiles among them.
        tile_px: side of a tile in pixels of the first modality; None: as trained.

    Raises:
        CheckpointError: a side that the network cannot take.
    """
    base = spec.modalities[0]
    told = {name: words.tile_px for name, words in said.items() if words.tile_px is not None}
    trained = told.get(base, MODALITIES[base].tile_px)
    base_px = trained if tile_px is None else tile_px
    if not 1 <= base_px <= _MOST_TILE_PX:
        raise CheckpointError(
            f"a tile of {base} has {base_px} px a side, expected 1 to {_MOST_TILE_PX}; choose another size"
        )
    sides = {}
    for name in spec.modalities:
        own, base_own = (told[name], trained) if name in told else (MODALITIES[name].tile_px, MODALITIES[base].tile_px)
        sides[name] = max(1, round(own * base_px / base_own))
    small = {series.name: sides[series.name] for series in spec.series if sides[series.name] < _LEAST_SERIES_PX}
    if small:
        least = round(_LEAST_SERIES_PX * base_px / min(small.values()))
        raise CheckpointError(
            f"a tile of {base_px} px of {base} covers {', '.join(f'{px} px of {name}' for name, px in small.items())}, "
            f"expected at least {_LEAST_SERIES_PX}; choose a larger tile, {least} px for one"
        )
    return sides


def label_side(base: str, base_px: int) -> int:
    """Side of the maps for tiles of `base_px` pixels of the first modality, at the pixel size of the labels.

    Raises:
        CheckpointError: maps larger than a plan describes.
    """
    side = round(_LABEL_PX * base_px / MODALITIES[base].tile_px)
    if not 1 <= side <= _MOST_LABEL_PX:
        raise CheckpointError(
            f"maps of a tile of {base_px} px of {base} have {side} px a side, expected 1 to {_MOST_LABEL_PX}; "
            "choose another tile"
        )
    return side


def padded_stages(spec: NetworkSpec, sides: Mapping[str, int]) -> Iterator[str]:
    """A line for every image whose tiles the backbone has to pad."""
    for image in spec.images:
        side = sides[image.name]
        if side % _COARSEST:
            below, above = side // _COARSEST * _COARSEST, -(-side // _COARSEST) * _COARSEST
            fit = f"{below} or {above}" if below else f"{above}"
            yield f"{image.name}: tiles of {side} px are padded inside the network; {fit} px would not be"
