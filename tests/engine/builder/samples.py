"""Tiles of the simulated world as a plan takes them, and graphs small enough to be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from uperfuse.engine import Plan
from uperfuse.engine.builder.calibrate import candidates, read_model
from uperfuse.engine.builder.tiles import Sample
from uperfuse.engine.flairhub import MODALITIES, dates_key
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.plan.plan import write_plan
from uperfuse.engine.simulation import DOMAINS, simulate

DOMAIN_NAMES = sorted(DOMAINS)
IMAGE = "encoder:AERIAL_RGBI"


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


def poison(path: Path, out: Path) -> str:
    """Write a plan anew with one layer that 8 bits ruin, and nothing else changed; the name of the layer.

    One channel of its map is 10^4 and weighs nothing: what the plan computes in float32 stays, and in steps for 10^4
    the other channels vanish.
    """
    with Plan.open(path) as plan:
        manifest = plan.manifest
        members = {name: bytes(plan.member(name)) for name in manifest.members}
        model = read_model(plan, IMAGE)
        layers = candidates(plan, kind="int8")[IMAGE]
    layer = next(each for each in layers if each.kind == "MatMul" and each.terms > each.results)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = np.array(numpy_helper.to_array(stored[layer.weight]))
    weights[0] = 0
    stored[layer.weight].CopyFrom(numpy_helper.from_array(weights, layer.weight))
    outlier = np.zeros(layer.terms, np.float32)
    outlier[0] = 1e4
    model.graph.initializer.append(numpy_helper.from_array(outlier, "outlier"))
    nodes = list(model.graph.node)
    place = next(index for index, node in enumerate(nodes) if node.name == layer.name)
    nodes[place].input[0] = "poisoned"
    nodes.insert(place, helper.make_node("Add", [layer.map, "outlier"], ["poisoned"], name="poison"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    members[manifest.segment(IMAGE).member] = model.SerializeToString()
    write_plan(out, manifest.model_copy(update={"members": {}, "check": None}), members)
    return layer.name
