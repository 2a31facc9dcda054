"""A plan on any back end, fed with raw numbers as a user would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.engine import Engine
from ...engine.errors import PlanError
from ...engine.flairhub import MODALITIES, dates_key
from ...engine.plan.manifest import Manifest
from ...engine.plan.network import Modality, Task
from ...engine.plan.plan import Plan
from ...engine.rasters.digital_numbers import cast
from ...engine.rasters.source import Pixels
from ..data import DataSetError, Sample
from ..data.layout import LABEL_PX, PRODUCTS
from ..data.prepare import take_bands
from ..description import TaskConfig
from .cost import Cost, cost_of_plan
from .mapper import Labels

__all__ = ["PlanMapper", "tile_side"]


class PlanMapper:
    """A loaded plan; see `Mapper`."""

    kind = "plan"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        manifest = engine.manifest
        self.name = manifest.name
        self.modalities: Mapping[str, Modality] = {each.name: each for each in manifest.modalities}
        self.tasks: Sequence[Task] = manifest.tasks
        self.said: Mapping[str, TaskConfig] = {}
        self.cost: Cost = cost_of_plan(manifest)
        self.runs = f"{engine.device}, {engine.precision}"

    @classmethod
    def open(cls, path: Path, *, device: str, precision: str) -> PlanMapper:
        """Load a plan for tiles of the size of a patch.

        Raises:
            PlanError: as `Engine.load`; or the plan takes other modalities or sides of tiles than a data set has.
            BackendError: as `Engine.load`.
        """
        with Plan.open(path) as plan:
            tile_px = tile_side(path, plan.manifest)
        return cls(Engine.load(path, device=device, precision=precision, tile_px=tile_px))

    def map(self, samples: Sequence[Sample]) -> Labels:
        """Map some patches; those with the same modalities together."""
        alike: dict[frozenset[str], list[int]] = defaultdict(list)
        for place, sample in enumerate(samples):
            alike[frozenset(sample.images) | frozenset(sample.series)].append(place)
        shape = (len(samples), LABEL_PX, LABEL_PX)
        labels = {task.name: np.empty(shape, np.uint8) for task in self.tasks}
        for held, places in alike.items():
            tiles, voids = self._tiles([samples[place] for place in places], held)
            found = self._engine.predict(tiles, voids=voids).labels
            for task, maps in labels.items():
                maps[places] = found[task]
        return labels

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _tiles(self, samples: Sequence[Sample], held: frozenset[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tiles and voids as `Engine.predict` takes them, of patches that all have the same modalities."""
        tiles: dict[str, Any] = {}
        voids: dict[str, Any] = {}
        for name, modality in self.modalities.items():
            if name not in held:
                continue
            if modality.kind == "image":
                tiles[name] = np.stack([_numbers(each, each.images[name], modality)[0] for each in samples])
                voids[name] = np.stack([each.images[name].void[0] for each in samples])
            else:
                tiles[name] = [_numbers(each, each.series[name].pixels, modality) for each in samples]
                tiles[dates_key(name)] = [each.series[name].dates for each in samples]
                voids[name] = [each.series[name].pixels.void for each in samples]
        return tiles, voids


def tile_side(path: Path, manifest: Manifest) -> int:
    """Side of the plan's tiles that cover a patch, in pixels of the base modality.

    Raises:
        PlanError: it takes modalities that no data set has, or has no such tiles.
    """
    unknown = [modality.name for modality in manifest.modalities if modality.name not in MODALITIES]
    if unknown:
        raise PlanError(
            f"{path} takes {', '.join(unknown)}, which no data set in FLAIR-HUB's layout has; evaluate a plan of "
            f"{', '.join(MODALITIES)}"
        )
    for side in manifest.tile_sides_px:
        sized = manifest.at(side)
        if sized.label_px == LABEL_PX and all(each.tile_px == PRODUCTS[each.name].px for each in sized.modalities):
            return side
    wanted = PRODUCTS[manifest.base].px
    raise PlanError(
        f"{path} takes tiles of {', '.join(map(str, manifest.tile_sides_px))} px of {manifest.base}, patches have "
        f"{wanted} px; export it with --tile-px {wanted}"
    )


def _numbers(sample: Sample, pixels: Pixels, modality: Modality) -> NDArray[Any]:
    """Of all bands of the file [T, C, Y, X] those that the plan takes, in its order and type."""
    values = take_bands(pixels.values, modality)
    try:
        return cast(values, void=pixels.void, target=np.dtype(modality.dtype))
    except ValueError as error:
        raise DataSetError(f"{sample.patch}: {modality.name}: {error}; get it anew or correct it") from None
