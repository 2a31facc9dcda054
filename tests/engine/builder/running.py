"""Graphs of parts on the processor, in float32, with inputs drawn for their doors."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping

import numpy as np
import onnx

from uperfuse.engine.backends.openvino_core import openvino_core

ROWS = {"B": 2, "T": 5}
"""Tiles and dates where a door leaves their number open."""


def run(model: onnx.ModelProto | bytes, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a graph in float32; of `arrays` it takes what it has inputs for."""
    model = onnx.load_from_string(model) if isinstance(model, bytes) else model
    core = openvino_core()
    read = core.read_model(io.BytesIO(model.SerializeToString()))
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    # by place: OpenVINO joins names where nothing is computed between them
    made = compiled([arrays[entry.name] for entry in model.graph.input])
    return {entry.name: np.array(made[place]) for place, entry in enumerate(model.graph.output)}


def draw(inputs: Iterable[onnx.ValueInfoProto], *, seed: int = 3) -> dict[str, np.ndarray]:
    """Arrays for a graph's inputs: raw numbers for series, of which the second lacks a date, noise for the rest."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for entry in inputs:
        axes = entry.type.tensor_type.shape.dim
        shape = [axis.dim_value or ROWS[axis.dim_param] for axis in axes]
        values = rng.standard_normal(shape)
        if entry.name == "mask":
            values = np.ones(shape)
            values[1, 2] = 0
        elif entry.name == "days":
            values = np.sort(rng.uniform(-120, 240, shape), axis=1)
        elif entry.name == "pixels" and len(shape) == 5:
            values = rng.uniform(0, 3000, shape)
        arrays[entry.name] = values.astype(np.float32)
    return arrays


def to_last(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same maps channels last; what has no four axes stays."""
    return {name: np.ascontiguousarray(np.moveaxis(a, 1, -1)) if a.ndim == 4 else a for name, a in arrays.items()}
