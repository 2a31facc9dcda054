"""One segment to one ONNX graph: exported, cleaned of traces of the machine, counted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...engine.errors import CheckpointError
from ...engine.plan.network import TensorSpec
from .segments import SegmentModule

__all__ = ["OPSET", "Graph", "count_weights", "export_graph"]

OPSET = 18
"""ONNX operator set; TensorRT 10.3 and OpenVINO 2025 read it."""

_COUNTED_DATES = 32


@dataclass(frozen=True)
class Graph:
    """An exported segment: its bytes, its doors, and what it costs for one tile (series: at 32 dates).

    `lender` names the segment that has weights in common with it.
    """

    name: str
    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    gflop: float
    lender: str | None = None


def export_graph(segment: SegmentModule) -> Graph:
    """Export one segment.

    Raises:
        CheckpointError: the graph is larger than ONNX holds in one file.
    """
    if not segment.inputs:
        return _constants(segment)
    module = segment.module.eval()
    batch = torch.export.Dim("B", min=1, max=4096)
    dates = torch.export.Dim("T", min=1, max=512)
    axes = {0: batch, 1: dates} if segment.series else {0: batch}
    shapes = tuple(dict(axes) for _ in segment.inputs)
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter warns of its own internals (deprecated torch and copyreg calls); none is ours to mend.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Positional(module),
            tuple(segment.inputs.values()),
            dynamo=True,
            dynamic_shapes=(shapes,),
            input_names=list(segment.inputs),
            output_names=list(segment.outputs),
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise CheckpointError(f"segment {segment.name} was not exported; try another release of torch")
    model = program.model_proto
    _clean(model)
    return Graph(
        name=segment.name,
        data=_serialise(segment.name, model),
        inputs=tuple(_tensor(value, segment) for value in model.graph.input),
        outputs=tuple(_output(name, example) for name, example in zip(segment.outputs, _run(segment), strict=True)),
        parameters=count_weights(model),
        gflop=_gflop(segment),
        lender=segment.lender,
    )


class _Positional(nn.Module):
    """Takes `*inputs`, so that every segment is exported through the same door."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        result: Tensor | tuple[Tensor, ...] = self.module(*inputs)
        return result


def _run(segment: SegmentModule) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        result = segment.module(*segment.inputs.values())
    return result if isinstance(result, tuple) else (result,)


def _constants(segment: SegmentModule) -> Graph:
    """A graph without inputs: each output is one stored tensor."""
    nodes, initialisers, outputs, specs = [], [], [], []
    for name, level in zip(segment.outputs, _run(segment), strict=True):
        array = level.detach().numpy().astype(np.float32)  # [1, C, 1, 1]
        initialisers.append(numpy_helper.from_array(array, f"{name}.value"))
        nodes.append(helper.make_node("Identity", [f"{name}.value"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
        specs.append(TensorSpec(name=name, dtype="float32", shape=array.shape))
    graph = helper.make_graph(nodes, segment.name, [], outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return Graph(segment.name, _serialise(segment.name, model), (), tuple(specs), count_weights(model), 0.0)


def _clean(model: onnx.ModelProto) -> None:
    """Drop source paths and stack traces: they name the machine that exported, and change its hash."""
    del model.metadata_props[:]
    model.doc_string = ""
    del model.graph.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]


def _serialise(name: str, model: onnx.ModelProto) -> bytes:
    try:
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
    except (ValueError, onnx.checker.ValidationError) as error:
        raise CheckpointError(f"segment {name} does not make a valid ONNX file: {error}") from error


def _tensor(value: onnx.ValueInfoProto, segment: SegmentModule) -> TensorSpec:
    sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    named: list[int | str] = [*sizes]
    named[0] = "B"
    if segment.series:
        named[1] = "T"
    return TensorSpec.model_validate({"name": value.name, "dtype": "float32", "shape": tuple(named)})


def _output(name: str, example: Tensor) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": "float32", "shape": ("B", *example.shape[1:])})


def count_weights(model: onnx.ModelProto) -> int:
    """Numbers that a model stores in floating point."""
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    return sum(int(np.prod(w.dims)) for w in model.graph.initializer if w.data_type in floats)


def _gflop(segment: SegmentModule) -> float:
    inputs = [example[:1] for example in segment.inputs.values()]
    if segment.series:
        inputs = [example[:, :1].repeat_interleave(_COUNTED_DATES, 1) for example in inputs]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        segment.module(*inputs)
    return round(float(counter.get_total_flops()) / 1e9, 4)
