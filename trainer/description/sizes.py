"""Sides of tiles: of every sensor in its own pixels, and of the maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...engine.errors import CheckpointError
from ...engine.flairhub import MODALITIES
from ..network import NetworkSpec
from .config import ModalityConfig

__all__ = ["each_once", "label_side", "tile_sides", "uneven_tiles"]

_LABEL_PX = 512
_MOST_TILE_PX = 4_096
_MOST_LABEL_PX = 16_384
_LEAST_SERIES_PX = 2
_COARSEST = 32


def each_once(tile_px: int | Sequence[int] | None) -> list[int | None]:
    """The sides of tiles that are asked for; None stands for the one that the network was trained with.

    Raises:
        CheckpointError: none, or one of them more than once.
    """
    if tile_px is None or isinstance(tile_px, int):
        return [tile_px]
    if not tile_px or len(set(tile_px)) < len(tile_px):
        asked = ", ".join(map(str, tile_px)) or "none"
        raise CheckpointError(f"sides of tiles are {asked}, expected at least one, each once; correct them")
    return [*tile_px]


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
    least = {series.name: _LEAST_SERIES_PX for series in spec.series}
    least |= {image.name: _COARSEST for image in spec.images if image.backbone.family == "convnextv2"}
    small = [name for name, px in least.items() if sides[name] < px]
    if small:
        covered = ", ".join(f"{sides[name]} px of {name}, of which it takes at least {least[name]}" for name in small)
        enough = max(-(-least[name] * base_px // sides[name]) for name in small)
        raise CheckpointError(f"a tile of {base_px} px of {base} covers {covered}; choose a larger one, of {enough} px")
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


def uneven_tiles(spec: NetworkSpec, sides: Mapping[str, int]) -> Iterator[str]:
    """A line for every image whose tiles do not divide into the pixels of the coarsest map."""
    for image in spec.images:
        side = sides[image.name]
        if side % _COARSEST:
            below, above = side // _COARSEST * _COARSEST, -(-side // _COARSEST) * _COARSEST
            fit = f"{below} or {above}" if below else f"{above}"
            done = "padded" if image.backbone.family == "swin" else "cropped"
            yield f"{image.name}: tiles of {side} px are {done} inside the network; {fit} px would not be"
