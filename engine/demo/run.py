"""The demonstration from end to end: simulate, write, map, compare, draw."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.warp import Resampling, reproject

from ..engine import Engine
from ..flairhub import TASKS
from ..plan.manifest import Manifest
from ..plan.network import Task
from ..prediction import VOID
from ..rasters import MapSummary, Scene, predict_raster
from ..rasters.mosaic import MapFiles
from ..simulation import DOMAINS, SimulatedScene, simulate, write_scene
from ..stopwatch import Stopwatch
from .agreement import Agreement, compare
from .picture import Row, draw_picture

__all__ = ["DemoResult", "TaskResult", "run_demo"]

_TITLES = {"AERIAL_LABEL-COSIA": "Land cover", "ALL_LABEL-LPIS": "Crops"}
_REFERENCE = "AERIAL_RGBI"

Status = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class TaskResult:
    """The map of one task.

    Attributes:
        task: as in the plan.
        title: its name in words.
        files: what was written.
        agreement: areas, and agreement with the truth.
    """

    task: Task
    title: str
    files: MapFiles
    agreement: Agreement


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration made.

    Attributes:
        scene: the simulated place.
        scene_file: the YAML file that names its rasters.
        engine: what mapped it, in words.
        summary: of the maps.
        tasks: the maps.
        picture: image, maps, confidence and legends in one PNG.
        seconds: stage -> wall-clock seconds; "read" runs beside the other stages of mapping.
        elapsed_s: wall-clock seconds from the first stage to the end of the last.
    """

    scene: SimulatedScene
    scene_file: Path
    engine: str
    summary: MapSummary
    tasks: tuple[TaskResult, ...]
    picture: Path
    seconds: Mapping[str, float]
    elapsed_s: float


def run_demo(
    plan: Path,
    *,
    out: Path,
    seed: int,
    shape_yx_px: tuple[int, int],
    domain: str = "gascogne",
    threads: int | None = None,
    progress: bool = True,
    status: Status = lambda _what: nullcontext(),
) -> DemoResult:
    """Map a simulated place that the plan has not seen, and compare the map with the truth.

    Rasters go to `out/scene`, maps to `out/maps`, the picture to `out/demo.png`. Files of these names are replaced,
    others are left alone.

    Args:
        plan: of a network that takes FLAIR-HUB's modalities.
        out: folder, made if need be.
        seed: which place.
        shape_yx_px: rows and columns of its aerial image, in pixels of 0.2 m.
        domain: region it lies in, one of `simulation.DOMAINS`.
        threads: processor threads; None takes all that this process may use.
        progress: show a progress bar where standard error is a terminal.
        status: makes the context in which something that takes time is done, from what it is.

    Raises:
        PlanError: the plan breaks a rule of the format.
        RasterError: the plan takes what is not simulated, or a file cannot be written.
    """
    watch = Stopwatch()
    with watch.stage("total"):
        with status("loading the plan"), watch.stage("load plan"):
            engine = Engine.load(plan, threads=threads)
        with engine:
            with status("simulating a place"), watch.stage("simulate"):
                place = simulate(seed, shape_yx_px=shape_yx_px, domain=DOMAINS[domain])
            with status("writing its rasters"), watch.stage("write scene"):
                scene_file = write_scene(place, out / "scene")
            scene = _inputs(scene_file, engine.manifest)
            maps = out / "maps"
            summary = predict_raster(engine, scene, maps, overwrite=True, begin="restart", progress=progress)
            manifest, said, by = engine.manifest, engine.describe(), f"plan {engine.plan_hash[:12]}"
        with status("comparing with the truth"), watch.stage("compare"):
            compared = [_compare(task, summary, place, scene_file) for task in manifest.tasks]
        with status("drawing"), watch.stage("draw"):
            rows = [row for _, row in compared]
            picture = draw_picture(place, rows, line=_about(scene, manifest), origin=f"{manifest.name}, {by}")
            _save(picture, out / "demo.png")
    elapsed_s = watch.seconds.pop("total")
    return DemoResult(
        scene=place,
        scene_file=scene_file,
        engine=said,
        summary=summary,
        tasks=tuple(result for result, _ in compared),
        picture=out / "demo.png",
        seconds=_in_order(watch.seconds, summary.seconds),
        elapsed_s=elapsed_s,
    )


def _in_order(around: Mapping[str, float], mapping: Mapping[str, float]) -> dict[str, float]:
    """Seconds of all stages in the order in which they began."""
    before = {stage: around[stage] for stage in ("load plan", "simulate", "write scene")}
    mapped = {"map": mapping["mapping"], "publish": mapping["publish"]}
    return {**before, **mapped, **{stage: spent for stage, spent in around.items() if stage not in before}}


def _about(scene: Scene, manifest: Manifest) -> str:
    sensors = f"{len(scene.inputs)} sensors" if len(scene.inputs) > 1 else "one sensor"
    return f"from {sensors}, pixels of {manifest.modality(manifest.base).gsd_m:g} m"


def _inputs(scene_file: Path, manifest: Manifest) -> Scene:
    """The simulated rasters that the plan takes."""
    wanted = {modality.name for modality in manifest.modalities}
    scene = Scene.from_yaml(scene_file)
    return Scene(inputs={name: source for name, source in scene.inputs.items() if name in wanted})


def _compare(task: Task, summary: MapSummary, place: SimulatedScene, scene_file: Path) -> tuple[TaskResult, Row]:
    """Read a map back from its files, on the pixels of the truth."""
    files = summary.files[task.name]
    assert files.confidence is not None, "the demonstration asks for confidence"
    labels, confidence = (_on_truth(path, scene_file) for path in (files.labels, files.confidence))
    hectares = sum(summary.areas_ha[task.name].values())
    pixel_m2 = hectares * 10_000 / max(int((labels != VOID).sum()), 1)
    agreement = compare(labels, task=task, pixel_m2=pixel_m2, truth=_truth(task, place))
    title = _TITLES.get(task.name, task.name)
    return TaskResult(task, title, files, agreement), Row(task, title, labels, confidence, agreement)


def _truth(task: Task, place: SimulatedScene) -> NDArray[np.uint8] | None:
    """What is there; None where the plan's classes are not FLAIR-HUB's."""
    facts = TASKS.get(task.name, ())
    if [entry.name for entry in task.classes] != [entry.name for entry in facts]:
        return None
    return place.labels[task.name]


def _on_truth(path: Path, scene_file: Path) -> NDArray[np.uint8]:
    """A map on the pixels of the aerial image [Y, X]; it has these already where that image is the plan's base."""
    with rasterio.open(scene_file.parent / f"{_REFERENCE}.tif") as reference, rasterio.open(path) as raster:
        values = np.full(reference.shape, VOID, np.uint8)
        reproject(
            rasterio.band(raster, 1),
            values,
            dst_transform=reference.transform,
            dst_crs=reference.crs,
            dst_nodata=VOID,
            resampling=Resampling.nearest,
        )
    return values


def _save(picture: Image.Image, path: Path) -> None:
    """Write a PNG that is complete or not there."""
    working = path.with_name(f".{path.name}.working")
    try:
        picture.save(working, format="PNG", optimize=True)
        os.replace(working, path)
    finally:
        working.unlink(missing_ok=True)
