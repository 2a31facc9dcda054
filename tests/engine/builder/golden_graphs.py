"""Segments of golden networks, exported as plans hold them, with random weights: their types and shapes are at stake.

A process of its own exports them one after the other, while the tests build what is there already.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch

from tests.golden import recipe
from uperfuse.engine.builder.onnx_graph import Graph
from uperfuse.trainer.export.graph import export_graph
from uperfuse.trainer.export.rewrite import rewritten
from uperfuse.trainer.export.segments import SegmentModule, _Decoder, _ImageEncoder, _SeriesEncoder
from uperfuse.trainer.network import ImageSpec, NetworkSpec, UPerFuse
from uperfuse.trainer.network.reading import read_spec

LEVELS = ("level0", "level1", "level2", "level3")


@dataclass(frozen=True)
class Wanted:
    """A segment: a golden case, and a modality or "decoder"."""

    case: str
    what: str

    def __str__(self) -> str:
        return f"{self.case} {self.what}"


class Exports:
    """Segments on their way; `graph` waits for the one that is asked for."""

    def __init__(self, shared: Path, folder: Path, wanted: list[Wanted]) -> None:
        # spawned: a fork would take locks of libraries along
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self._coming: dict[Wanted, Future[str]] = {
            each: self._pool.submit(_export, str(shared), each, str(folder / f"{place}.onnx"))
            for place, each in enumerate(wanted)
        }

    def graph(self, wanted: Wanted) -> Graph:
        """The graph of a segment, constants evaluated."""
        path = Path(self._coming[wanted].result())
        model = onnx.load_from_string(path.read_bytes())
        path.unlink()
        return Graph(model).folded()

    def close(self) -> None:
        """Export nothing more."""
        self._pool.shutdown(cancel_futures=True)


def spec_of(shared: Path, case: str) -> tuple[NetworkSpec, dict[str, int]]:
    """What a golden case's network is made of, and the sides of its tiles."""
    description, _ = recipe(shared).load(case)
    shapes = {key: tuple(shape) for key, shape in description["state_dict"].items()}
    tile_px = {name: each["size_px"] for name, each in description["modalities"].items()}
    return read_spec(shapes, tile_px=tile_px), tile_px


def _export(shared: str, wanted: Wanted, path: str) -> str:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec, tile_px = spec_of(Path(shared), wanted.case)
    series = wanted.what.endswith("_TS")
    if wanted.what == "decoder":
        module, inputs, outputs = _decoder(spec, tile_px)
    elif series:
        module, inputs, outputs = _series(spec, tile_px, wanted.what)
    else:
        module, inputs, outputs = _image(spec, tile_px, wanted.what)
    segment = SegmentModule("segment:A", module.eval(), inputs, outputs, series=series)
    Path(path).write_bytes(export_graph(rewritten(segment)).data)
    return path


def _image(spec: NetworkSpec, tile_px: dict[str, int], name: str):
    """The encoder of one image; the others are left out, for they only cost memory."""
    image = spec.image(name)
    network = UPerFuse(replace(spec, images=(image,)))
    pixels = torch.randn(2, image.channels, tile_px[name], tile_px[name])
    return _ImageEncoder(network, name), {"pixels": pixels}, LEVELS


def _series(spec: NetworkSpec, tile_px: dict[str, int], name: str):
    network = UPerFuse(replace(spec, images=_light(spec)))
    (series,) = (each for each in spec.series if each.name == name)
    inputs = {
        "pixels": torch.rand(2, 7, series.channels, tile_px[name], tile_px[name]) * 1000,
        "days": torch.linspace(-120.0, 220.0, 7).repeat(2, 1),
        "mask": torch.ones(2, 7),
    }
    return _SeriesEncoder(network, name), inputs, LEVELS


def _decoder(spec: NetworkSpec, tile_px: dict[str, int]):
    network = UPerFuse(replace(spec, images=_light(spec), series=()))
    backbone = spec.images[0].backbone
    sides = backbone.level_sides(tile_px[spec.images[0].name])
    sizes = zip(LEVELS, backbone.dims, sides, strict=True)
    inputs = {name: torch.randn(2, channels, side, side) for name, channels, side in sizes}
    return _Decoder(network, spec.tasks[0].name), inputs, ("logits",)


def _light(spec: NetworkSpec) -> tuple[ImageSpec]:
    """The base image with one block a stage: projections and decoders are the same, and nothing else is looked at."""
    base = spec.images[0]
    return (replace(base, backbone=replace(base.backbone, depths=(1, 1, 1, 1))),)
