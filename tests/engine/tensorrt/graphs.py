"""Small parts with types written into them, as a build hands them to TensorRT."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from uperfuse.engine.plan.payloads import Door, Part

ONNX_TYPES = {
    "float32": (TensorProto.FLOAT, np.float32),
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
}
ROWS, COLUMNS = 12, 20


@dataclass(frozen=True)
class SmallGraph:
    """What a compiler takes."""

    name: str
    model: bytes
    inputs: tuple[Door, ...]
    outputs: tuple[Door, ...]

    @property
    def part(self) -> Part:
        """What a plan would say of it."""
        return Part(name=self.name, member="part.engine", inputs=self.inputs, outputs=self.outputs)


def image_graph(
    *, name: str = "encoder:AERIAL_RGBI", dtype: str = "float16", weights: str | None = None, operation: str = "Relu"
) -> SmallGraph:
    """A convolution, a non-linearity, and a map that lies channels last: [B, 3, Y, X] -> [B, Y, X, 8].

    Args:
        name: of the part.
        dtype: of doors and maps.
        weights: type of the weights where it is another one, which no strongly typed network takes.
        operation: the non-linearity.
    """
    kind, _ = ONNX_TYPES[dtype]
    weight = _weight("w", (8, 3, 3, 3), weights or dtype)
    nodes = [
        helper.make_node("Conv", ["pixels", "w"], ["sums"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node(operation, ["sums"], ["bent"], name="bend"),
        helper.make_node("Transpose", ["bent"], ["level0"], name="last", perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        name.replace(":", "_"),
        [helper.make_tensor_value_info("pixels", kind, ["B", 3, ROWS, COLUMNS])],
        [helper.make_tensor_value_info("level0", kind, ["B", ROWS, COLUMNS, 8])],
        [weight],
    )
    inputs = (Door(name="pixels", dtype=dtype, shape=("B", 3, ROWS, COLUMNS)),)
    outputs = (Door(name="level0", dtype=dtype, shape=("B", ROWS, COLUMNS, 8)),)
    return SmallGraph(name, _serialise(graph), inputs, outputs)


def series_graph(*, name: str = "spatial:SENTINEL2_TS", dtype: str = "float16") -> SmallGraph:
    """Masked pixels in float32, then maps of every date.

    Takes [B, T, 10, Y, X] and [B, T]; gives [B, T, Y, X, 4] and [B, T, Y, X, 10].
    """
    kind, _ = ONNX_TYPES[dtype]
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [2, 3, 4])
    nodes = [
        helper.make_node("Unsqueeze", ["mask", "axes"], ["wide"], name="unsqueeze"),
        helper.make_node("Mul", ["pixels", "wide"], ["real"], name="mask_out"),
        helper.make_node("Cast", ["real"], ["short"], name="cast", to=kind),
        helper.make_node("Transpose", ["short"], ["features"], name="last", perm=[0, 1, 3, 4, 2]),
        helper.make_node("MatMul", ["features", "w"], ["skip0"], name="project"),
    ]
    graph = helper.make_graph(
        nodes,
        name.replace(":", "_"),
        [
            helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", "T", 10, 6, 5]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["B", "T"]),
        ],
        [
            helper.make_tensor_value_info("skip0", kind, ["B", "T", 6, 5, 4]),
            helper.make_tensor_value_info("features", kind, ["B", "T", 6, 5, 10]),
        ],
        [axes, _weight("w", (10, 4), dtype)],
    )
    inputs = (
        Door(name="pixels", dtype="float32", shape=("B", "T", 10, 6, 5)),
        Door(name="mask", dtype="float32", shape=("B", "T")),
    )
    outputs = (
        Door(name="skip0", dtype=dtype, shape=("B", "T", 6, 5, 4)),
        Door(name="features", dtype=dtype, shape=("B", "T", 6, 5, 10)),
    )
    return SmallGraph(name, _serialise(graph), inputs, outputs)


def weights_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values of a weight before they are rounded to its type."""
    seed = sum(map(ord, name)) + len(shape)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _weight(name: str, shape: tuple[int, ...], dtype: str):
    kind, numpy_type = ONNX_TYPES[dtype]
    return helper.make_tensor(name, kind, shape, weights_of(name, shape).astype(numpy_type).tobytes(), raw=True)


def _serialise(graph) -> bytes:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
