"""Tiles of the simulated world as a plan takes them, and graphs small enough to be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from uperfuse.engine.build.tiles import Sample
from uperfuse.engine.flairhub import MODALITIES, dates_key
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.simulation import DOMAINS, simulate

DOMAIN_NAMES = sorted(DOMAINS)


def simulated(manifest: Manifest, seeds: Iterable[int], *, truth: bool = False) -> list[Sample]:
    """One tile of each seed's scene; a plan of smaller tiles gets a corner of it."""
    found = []
    for seed in seeds:
        scene = simulate(seed, domain=DOMAINS[DOMAIN_NAMES[seed % len(DOMAIN_NAMES)]])
        cut = scene.tile(0, 0, min(512, manifest.base_px))
        tiles = {}
        for modality in manifest.modalities:
            have = list(MODALITIES[modality.name].bands)
            values = cut[modality.name][..., [have.index(band) for band in modality.bands], :, :]
            tiles[modality.name] = values[None] if modality.kind == "image" else [values]
            if modality.kind == "series":
                tiles[dates_key(modality.name)] = [cut[dates_key(modality.name)]]
        found.append(Sample(tiles, {}, {task.name: cut[task.name] for task in manifest.tasks} if truth else {}))
    return found


def graph(
    nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray], *, takes: dict[str, tuple], gives: list[str]
) -> onnx.ModelProto:
    """A float32 model; shapes of what it gives are inferred."""
    made = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in takes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in gives],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)
