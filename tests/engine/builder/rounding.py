"""Typed graphs on the processor, every short tensor rounded as a GPU would round it, sums in float32.

OpenVINO computes short types in float32 and drops conversions between them. So the types are taken out of the graph
and what they do is written in: after every node that makes a short tensor its mantissa is cut to 11 or 8 bits, by
Veltkamp's splitting, which no optimisation undoes. Exponents keep float32's range.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from .running import run

BITS = {TensorProto.FLOAT16: 11, TensorProto.BFLOAT16: 8}
EXACT = {"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Slice", "Concat", "Pad", "Expand", "Identity", "Relu"}
"""What makes no number that was not there before."""


def run_rounded(model: bytes, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a typed graph for float32 inputs, which are rounded to the types of its doors."""
    return run(_rounded(onnx.load_from_string(model)), arrays)


def _rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    inferred = shape_inference.infer_shapes(model).graph
    entries = (*inferred.input, *inferred.value_info, *inferred.output)
    bits = {entry.name: BITS.get(entry.type.tensor_type.elem_type) for entry in entries}
    nodes, stored = [], [_widened(tensor) for tensor in model.graph.initializer]
    names = {}

    def cut(name: str, width: int) -> None:
        """Write `name` as what is left of it."""
        factor = f"split{width}"
        if factor not in names:
            names[factor] = factor
            stored.append(numpy_helper.from_array(np.float32(2 ** (24 - width) + 1), factor))
        nodes.append(helper.make_node("Mul", [f"{name}/raw", factor], [f"{name}/large"]))
        nodes.append(helper.make_node("Sub", [f"{name}/large", f"{name}/raw"], [f"{name}/rest"]))
        nodes.append(helper.make_node("Sub", [f"{name}/large", f"{name}/rest"], [name]))

    inputs = []
    for entry in model.graph.input:
        width = bits[entry.name]
        inputs.append(_float_entry(entry))
        if width is not None:
            nodes.append(helper.make_node("Identity", [entry.name], [f"{entry.name}/door/raw"]))
            cut(f"{entry.name}/door", width)
            names[entry.name] = f"{entry.name}/door"
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [names.get(name, name) for name in node.input]
        if node.op_type == "Cast":
            del copy.attribute[:]
            copy.op_type = "Identity"
        width = bits.get(node.output[0])
        if width is None or node.op_type in EXACT:
            nodes.append(copy)
            continue
        copy.output[:] = [f"{node.output[0]}/raw"]
        nodes.append(copy)
        cut(node.output[0], width)
    made = onnx.ModelProto(ir_version=model.ir_version)
    made.opset_import.extend(model.opset_import)
    made.graph.name = "rounded"
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(stored)
    made.graph.input.extend(inputs)
    made.graph.output.extend(_float_entry(entry) for entry in model.graph.output)
    return made


def _float_entry(entry: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(entry)
    copy.type.tensor_type.elem_type = TensorProto.FLOAT
    return copy


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type == TensorProto.BFLOAT16:
        bits = np.frombuffer(tensor.raw_data, np.uint16).astype(np.uint32) << 16
        return numpy_helper.from_array(bits.view(np.float32).reshape(tensor.dims), tensor.name)
    if tensor.data_type == TensorProto.FLOAT16:
        return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
    return tensor
