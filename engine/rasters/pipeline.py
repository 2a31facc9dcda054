"""Tiles through the engine: read ahead, put into batches, mapped, and kept beside all that.

    read (`readers.py`) -> batches of tiles with the same modalities -> predict -> cut -> keep (one thread)

Every queue is bounded, so that the slowest stage sets the pace and memory stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..flairhub import dates_key
from ..plan.manifest import Manifest
from ..stopwatch import Stopwatch
from .mosaic import TileMap
from .progress import Advance
from .reader import TileInputs
from .run import Outcome
from .tile_reader import ReadTile
from .tiling import Tiling
from .work import Planned, Work

__all__ = ["Pipeline", "Predictor", "remaining"]

_TRIAL_TILES = 8
"""Mapped, at least, before the number of readers is chosen."""


class Maps(Protocol):
    """What a predictor answers, per task: labels and confidence [B, Y, X], logits [B, K, Y, X] if asked for."""

    @property
    def labels(self) -> Mapping[str, NDArray[np.uint8]]: ...

    @property
    def confidence(self) -> Mapping[str, NDArray[np.uint8]]: ...

    @property
    def logits(self) -> Mapping[str, NDArray[np.float32]]: ...


class Predictor(Planned, Protocol):
    """What maps tiles: an `Engine`."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Stage -> seconds that it has taken so far, if that is known."""
        ...

    def predict(
        self,
        tiles: Mapping[str, Any],
        *,
        voids: Mapping[str, Any] | None = None,
        logits: bool = False,
        grid: Literal["label", "base"] = "label",
    ) -> Maps:
        """Map a batch of tiles; see `Engine.predict`."""
        ...


class Pipeline:
    """Maps tiles of an open scene.

    Args:
        engine: that predicts.
        work: the scene.
        keep: is given what became of every tile.
        watch: times the stages.
        advance: is told how many pixels are done.
    """

    def __init__(
        self, engine: Predictor, work: Work, keep: Callable[[Outcome], None], watch: Stopwatch, advance: Advance
    ) -> None:
        self._engine = engine
        self._work = work
        self._keep = keep
        self._watch = watch
        self._advance = advance

    def map(self, tiles: Iterable[int]) -> None:
        """Map tiles by their numbers.

        Raises:
            RasterError: a tile cannot be read, or what is finished cannot be kept.
        """
        numbers = [*tiles]
        self._map(self._settle(numbers) if self._work.readers.undecided else numbers)

    def _settle(self, tiles: list[int]) -> list[int]:
        """Map the first tiles, choose the number of readers by what they took, and give the others back.

        What the very first batch takes is not counted: graphs are compiled, and files met for the first time.
        """
        first = self._work.batch
        trial = max(_TRIAL_TILES, 2 * first)
        rest = tiles[first + trial :]
        if not rest:
            return tiles
        self._map(tiles[:first])
        before = dict(self._watch.seconds)
        self._map(tiles[first : first + trial])
        spent = {stage: seconds - before.get(stage, 0.0) for stage, seconds in self._watch.seconds.items()}
        read_s = spent.pop("read", 0.0)
        self._work.readers.grow(read_s=read_s / trial, rest_s=sum(spent.values()) / trial, tiles=len(rest))
        return rest

    def _map(self, tiles: list[int]) -> None:
        ahead = 2 * self._work.batch
        with closing(self._work.readers.read(tiles, ahead=ahead, watch=self._watch)) as arriving:
            for batch in self._batches(arriving):
                self._map_batch(batch)
                self._advance(sum(tile.inputs.place.core_pixels for tile in batch))

    def _batches(self, arriving: Iterable[Outcome | ReadTile]) -> Iterator[list[ReadTile]]:
        """Tiles of the same modalities, a batch at a time; what needs no prediction is kept at once."""
        waiting: dict[frozenset[str], list[ReadTile]] = {}
        for each in arriving:
            if isinstance(each, Outcome):
                self._keep(each)
                self._advance(self._work.tiling[each.tile].core_pixels)
                continue
            alike = waiting.setdefault(frozenset(each.inputs.tiles), [])
            alike.append(each)
            if len(alike) == self._work.batch:
                yield waiting.pop(frozenset(each.inputs.tiles))
        yield from waiting.values()

    def _map_batch(self, tiles: list[ReadTile]) -> None:
        with self._watch.stage("stack"):
            batch, voids = _stacked([tile.inputs for tile in tiles], self._engine.manifest)
        maps = self._predict(batch, voids)
        with self._watch.stage("cut"):
            for index, tile in enumerate(tiles):
                self._keep(Outcome(tile.number, "mapped", tile.inputs.remarks, self._cut(maps, index, tile)))

    def _predict(self, batch: Mapping[str, Any], voids: Mapping[str, Any]) -> Maps:
        before = dict(self._engine.seconds)
        start = time.perf_counter()
        maps = self._engine.predict(batch, voids=voids, logits=self._work.options.logits, grid="base")
        spent = time.perf_counter() - start
        stages = {name: seconds - before.get(name, 0.0) for name, seconds in self._engine.seconds.items()}
        self._watch.add({**stages, "predict": spent - sum(stages.values())})
        return maps

    def _cut(self, maps: Maps, index: int, tile: ReadTile) -> dict[str, NDArray[np.uint8]]:
        """What one tile of a batch gives of all maps."""
        given: dict[str, NDArray[np.uint8]] = {}
        for task in self._work.mosaic.files:
            logits = maps.logits[task][index] if self._work.options.logits else None
            whole = TileMap(maps.labels[task][index], maps.confidence[task][index], logits)
            given |= self._work.mosaic.cut(tile.number, task, whole, void=tile.inputs.void)
        return given


def remaining(tiling: Tiling, finished: Container[int]) -> list[int]:
    """Numbers of the tiles that are to be mapped yet, in the order in which they are read."""
    return [tile for tile in range(len(tiling)) if tile not in finished]


def _stacked(inputs: list[TileInputs], manifest: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """A batch as the engine takes it; all its tiles have the same modalities."""
    tiles: dict[str, Any] = {}
    voids: dict[str, Any] = {}
    for modality in manifest.modalities:
        name = modality.name
        if name not in inputs[0].tiles:
            continue
        arrays, masks = [tile.tiles[name] for tile in inputs], [tile.voids[name] for tile in inputs]
        if modality.kind == "image":
            tiles[name], mask = np.stack(arrays), np.stack(masks)
            if mask.any():
                voids[name] = mask
        else:
            tiles[name], voids[name] = arrays, masks
            tiles[dates_key(name)] = [tile.tiles[dates_key(name)] for tile in inputs]
    return tiles, voids
