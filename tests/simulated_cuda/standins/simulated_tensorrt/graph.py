"""Runs a typed ONNX graph on the CPU in float32, with its doors in the types that it declares."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray

from uperfuse.engine.backends.cpu.compiling import has_cubic_attention
from uperfuse.engine.backends.openvino_core import openvino_core

from .values import DataType

__all__ = ["Tensor", "doors", "output_shapes", "read", "run"]

Tensor = tuple[str, DataType, tuple[int, ...]]
"""Name, type, and shape with -1 for what varies."""

_TYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.BFLOAT16: DataType.BF16,
}
_LOCK = threading.Lock()


def doors(model: onnx.ModelProto) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of a graph."""
    weights = {each.name for each in model.graph.initializer}
    return (
        [_tensor(each) for each in model.graph.input if each.name not in weights],
        [_tensor(each) for each in model.graph.output],
    )


def read(model: bytes) -> ov.Model:
    """The graph as OpenVINO has it; RuntimeError where it does not know an operation."""
    return openvino_core().read_model(model)


def output_shapes(model: bytes, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Shapes that come out for shapes that go in."""
    compiled = _compile(model, _frozen(shapes))
    return {name: tuple(port.shape) for name, port in zip(_outputs(model), compiled.outputs, strict=True)}


def run(
    model: bytes, inputs: Mapping[str, NDArray[np.uint8]], *, shapes: Mapping[str, Sequence[int]]
) -> dict[str, bytes]:
    """Run a graph on raw bytes.

    Args:
        model: ONNX.
        inputs: name -> its bytes.
        shapes: name -> its shape.

    Returns:
        Bytes of each output.
    """
    with _LOCK:
        compiled = _compile(model, _frozen(shapes))
        request = compiled.create_infer_request()
        for port in compiled.inputs:
            name = port.get_any_name()
            tensor = ov.Tensor(port.element_type, port.shape)
            _bytes(tensor)[:] = inputs[name]
            request.set_tensor(name, tensor)
        request.infer()
        ports = zip(_outputs(model), compiled.outputs, strict=True)
        return {name: _bytes(request.get_tensor(port)).tobytes() for name, port in ports}


def _bytes(tensor: ov.Tensor) -> NDArray[np.uint8]:
    return np.asarray(tensor.data).reshape(-1).view(np.uint8)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim)
    return value.name, _TYPES[kind.elem_type], shape


def _frozen(shapes: Mapping[str, Sequence[int]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(sorted((name, tuple(shape)) for name, shape in shapes.items()))


@lru_cache(maxsize=256)
def _outputs(model: bytes) -> tuple[str, ...]:
    """Names of a graph's outputs, in order; OpenVINO gives a port every name that its tensor ever had."""
    return tuple(each.name for each in onnx.load_from_string(model).graph.output)


@lru_cache(maxsize=256)
def _compile(model: bytes, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Any:
    graph = read(model)
    graph.reshape({name: list(shape) for name, shape in shapes})
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    if has_cubic_attention(graph):
        settings["SNIPPETS_MODE"] = "DISABLE"
    return openvino_core().compile_model(graph, "CPU", settings)
