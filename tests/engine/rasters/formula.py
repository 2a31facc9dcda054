"""A manifest, an engine that maps by a formula with spatial context, and rasters written from arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

from uperfuse.engine.flairhub import MODALITIES, REFERENCE_DAY
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.plan.network import (
    Channel,
    ClassEntry,
    Modality,
    Provenance,
    Segment,
    SeriesFilter,
    Task,
    TensorSpec,
)
from uperfuse.engine.prediction import VOID, Prediction

TASK = "LAND"
CLASSES = ("field & meadow", "roof", "water", "wood")
RADIUS_PX = 3
PLACE = Affine(0.2, 0, 843000.0, 0, -0.2, 6519000.0)


def make_modality(name: str, **changes: Any) -> Modality:
    """A modality with the sensor's usual bands and type."""
    facts = MODALITIES[name]
    bands = changes.pop("bands", facts.usual)
    series = facts.kind == "series"
    settings: dict[str, Any] = {
        "name": name,
        "kind": facts.kind,
        "bands": bands,
        "dtype": facts.dtype,
        "channels": tuple(Channel(name=band, band=band) for band in bands),
        "tile_px": facts.tile_px,
        "gsd_m": facts.gsd_m,
        "reference_day": REFERENCE_DAY if series else None,
        "filter": SeriesFilter() if name == "SENTINEL2_TS" else None,
    }
    return Modality(**{**settings, **changes})


def make_manifest(*modalities: Modality) -> Manifest:
    """A manifest with the given modalities and one task."""
    images = [modality for modality in modalities if modality.kind == "image"]
    base = (images or list(modalities))[0]
    spec = (TensorSpec(name="level0", dtype="float32", shape=("B", 1, 1, 1)),)
    names = [f"encoder:{m.name}" for m in modalities] + [f"absent:{m.name}" for m in modalities if m.may_be_absent]
    return Manifest(
        schema_version=1,
        name="formula",
        encoder="none",
        decoder="none",
        base=base.name,
        label_px=base.tile_px,
        modalities=modalities,
        tasks=(
            Task(name=TASK, classes=tuple(ClassEntry(name=c, colour=f"#{i}0{i}5ff") for i, c in enumerate(CLASSES))),
        ),
        fusion="mean" if not images else "none" if len(modalities) == 1 else "sum",
        logits_px=base.tile_px,
        upsampling=(),
        segments=tuple(
            Segment(name=name, member=f"segments/{i}.onnx", inputs=(), outputs=spec, parameters=0, gflop=0)
            for i, name in enumerate([*names, f"decode:{TASK}"])
        ),
        provenance=Provenance(checkpoint="none", checkpoint_sha256="0" * 64, created="2025-01-01", tools={}),
    )


def box_labels(values: NDArray[Any], void: NDArray[np.bool_], *, radius: int = RADIUS_PX) -> NDArray[np.uint8]:
    """Class of the mean of all valid values [Y, X] within `radius`, in exact integers; 255 where void.

    Every 64 of the mean is a class, of four.
    """
    weighed = np.where(void, 0, values).astype(np.int64)
    sums, counts = (_box(array, radius) for array in (weighed, (~void).astype(np.int64)))
    labels = np.clip(sums // np.maximum(counts, 1) // 64, 0, len(CLASSES) - 1).astype(np.uint8)
    return np.where(void, np.uint8(VOID), labels)


def _box(array: NDArray[np.int64], radius: int) -> NDArray[np.int64]:
    padded = np.pad(array, radius)
    for axis in (0, 1):
        total = np.insert(np.cumsum(padded, axis=axis), 0, 0, axis=axis)
        size = array.shape[axis] if axis else padded.shape[axis] - 2 * radius
        upper = np.take(total, np.arange(size) + 2 * radius + 1, axis=axis)
        padded = upper - np.take(total, np.arange(size), axis=axis)
    return padded


@dataclass
class FormulaEngine:
    """Maps the first band of the base by `box_labels`; whatever else it is given, it records."""

    manifest: Manifest
    plan_hash: str = "ab" * 32
    calls: list[dict[str, Any]] = field(default_factory=list)
    fail_at_call: int | None = None
    error: BaseException = field(default_factory=lambda: RuntimeError("the engine broke"))
    keep_calls: bool = True
    device: str = "cpu"
    precision: str = "float32"
    seconds: dict[str, float] = field(default_factory=dict)

    def predict(
        self,
        tiles: Mapping[str, Any],
        *,
        voids: Mapping[str, Any] | None = None,
        logits: bool = False,
        grid: Literal["label", "base"] = "label",
    ) -> Prediction:
        assert grid == "base"
        if self.fail_at_call == len(self.calls):
            raise self.error
        self.calls.append({**tiles, "voids": voids} if self.keep_calls else {})
        base = self.manifest.modality(self.manifest.base)
        labels = np.stack([self._label(base, tile, voids, index) for index, tile in enumerate(tiles[base.name])])
        confidence = np.where(labels == VOID, VOID, 40 + 10 * labels.astype(np.int64)).astype(np.uint8)
        scores = np.where(labels[:, None] == np.arange(len(CLASSES))[None, :, None, None], 3.0, 0.0)
        return Prediction({TASK: labels}, {TASK: confidence}, {TASK: scores.astype(np.float32)} if logits else {})

    def _label(self, base: Modality, tile: NDArray[Any], voids: Any, index: int) -> NDArray[np.uint8]:
        void = np.zeros((base.tile_px, base.tile_px), np.bool_)
        if voids and base.name in voids:
            void = voids[base.name][index] if base.kind == "image" else voids[base.name][index].all(axis=0)
        if base.kind == "image":
            return box_labels(tile[0], void)
        return box_labels(tile[:, 0].mean(axis=0) if len(tile) else np.zeros(void.shape), void, radius=0)


def write_raster(
    path: Path,
    values: NDArray[Any],
    *,
    crs: str | None = "EPSG:2154",
    transform: Affine = PLACE,
    names: Sequence[str] | None = None,
    **profile: Any,
) -> Path:
    """Write [C, Y, X] as a GeoTIFF; without a photometric meaning unless one is given."""
    profile = {"photometric": "MINISBLACK", **profile}
    with (
        _place_optional(),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype=values.dtype,
            count=values.shape[0],
            height=values.shape[1],
            width=values.shape[2],
            crs=crs,
            transform=transform,
            **profile,
        ) as dataset,
    ):
        dataset.write(values)
        for number, name in enumerate(names or (), start=1):
            dataset.set_band_description(number, name)
    return path


def aerial_manifest(*, bands: tuple[str, ...] = ("R", "G", "B"), tile_px: int = 64, **changes: Any) -> Manifest:
    """A plan of one aerial image with small tiles."""
    return make_manifest(make_modality("AERIAL_RGBI", bands=bands, tile_px=tile_px, **changes))


def read_raster(path: Path) -> NDArray[Any]:
    """All bands, [C, Y, X]."""
    with _place_optional(), rasterio.open(path) as dataset:
        values: NDArray[Any] = dataset.read()
    return values


@contextmanager
def _place_optional() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
