"""What the engine asks of a back end.

A back end compiles the segments of one plan for one device and maps batches of checked tiles with them. How it cuts
the way from tiles to maps into steps is its own business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from ..prediction import Prediction
from ..tiles import Tile

__all__ = ["Backend", "Grid", "Known", "Residence"]

Grid = Literal["label", "base"]
"""Pixels of a map: those of the labels that the network learnt from, or the base modality's own."""

Residence = Literal["host", "device"]
"""Where maps are given back: as NumPy arrays, or as arrays on the device that made them."""


class Known(Protocol):
    """Features of a batch of tiles, of modalities that were encoded beforehand; lies where its back end wants it."""

    def __len__(self) -> int:
        """Tiles of the batch."""
        ...

    def close(self) -> None:
        """Give memory back; what is known is gone."""
        ...


class Backend(Protocol):
    """Segments of one plan, compiled for one device.

    Attributes:
        device: "cpu" or "cuda:0".
        precision: that products are computed in.
        threads: processor threads that the steps on the host may use.
    """

    device: str
    precision: str
    threads: int

    @property
    def reasons(self) -> tuple[str, ...]:
        """What runs, where and why, a line each."""
        ...

    @property
    def seconds(self) -> Mapping[str, float]:
        """Stage -> seconds that it has taken so far; empty where the stages cannot be told apart."""
        ...

    def predict(
        self, tiles: Sequence[Tile], *, known: Any | None, logits: bool, grid: Grid, residence: Residence
    ) -> Prediction:
        """Maps of a batch of checked tiles.

        Args:
            tiles: what arrived of each tile; a modality that is missing and not known is absent.
            known: what `prime` of this back end gave for the same batch.
            logits: whether logits at the size of the labels are wanted, too.
            grid: of the maps.
            residence: of the maps.

        Raises:
            BackendError: the device failed, or the network gave what is no number.
            TileError: a value that is not finite at a pixel that is not void.
        """
        ...

    def prime(self, tiles: Sequence[Tile]) -> Known:
        """Encode what is known of a batch of tiles before the rest arrives.

        Raises:
            BackendError: as `predict`.
            TileError: as `predict`.
        """
        ...

    def warm_up(self, *, batch: int, dates: int) -> None:
        """Do everything that a first prediction of tiles with all modalities would have to do.

        Args:
            batch: tiles at a time.
            dates: of each series.

        Raises:
            BackendError: the back end was not built for so many, or the device failed.
        """
        ...

    def close(self) -> None:
        """Give memory back."""
        ...
