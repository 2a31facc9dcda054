"""Types written into a part's graph, for strongly typed networks: TensorRT then chooses none of them.

Products (convolutions and matrix products) and the maps between are short, their weights stored so; what stays in
float32 is said in `islands`.

How sums of products are accumulated follows from the types. TensorRT takes for a matrix product an accumulator of at
least the range of its inputs, which for float16 may be float16 itself; one in float32 is asked for by converting both
inputs to float32 and the result back at once, a pattern that TensorRT turns into one product of float16 with float32
sums (TensorRT documentation, "Control of Computational Precision"; PyTorch's `use_fp32_acc` writes the same,
pytorch/TensorRT #3110). So it is done here for products with stored matrices, up to 4096 terms. Seen with TensorRT-RTX
1.7: the engine multiplies float16 then, and float32 where the bias is added before the result is converted back.

- bfloat16 needs nothing: its sums have float32's range, and tensor cores accumulate them in float32.
- q k^T and the attention's product with v stay plain float16, the sum of scores and bias and the softmax float32: this
  is fused to one attention kernel, which the pattern is not (both seen with TensorRT-RTX 1.7). q k^T has as many terms
  as a head is wide (32), and q is scaled before.
- Convolutions stay plain: the pattern is documented for matrix products alone.
- 8-bit products accumulate in integers or float32 by themselves.

Products in float32 are computed so because the compiler switches TF32 off, whose 10 bits are those of float16.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from ..errors import BackendError, PlanError
from ..plan.payloads import Door
from .islands import MOVES, float_nodes, touched
from .joined import join_products
from .onnx_graph import FLOAT, Graph, assemble, attribute, value
from .part_graph import FloatPart, PartGraph, Precision

__all__ = ["write_types"]

_Name = Literal["float32", "float16", "bfloat16"]
_NAMES: Mapping[Precision, _Name] = {"float32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_ELEMENTS: Mapping[_Name, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
_MATRIX_PRODUCTS = ("MatMul", "Gemm")
_SCALED = ("QuantizeLinear", "DequantizeLinear")
_WITH_SHORT_SCALES = 19  # operator set since which quantisation takes scales that are not float32
_SCALE_ERROR = 2.0**-8
# inputs that are float32 whatever the node computes in
_FIXED = {"Resize": (1, 2)}


def write_types(part: FloatPart, *, precision: Precision) -> PartGraph:
    """Write types into a part.

    Args:
        part: in float32; it may hold QuantizeLinear and DequantizeLinear, whose scales become as short as the products
            that they feed.
        precision: of products that are not quantised, and of the maps at the doors.

    Raises:
        PlanError: a stored number does not fit the type.
        BackendError: the precision is unknown.
    """
    if precision not in _NAMES:
        raise BackendError(f"precision is {precision!r}, expected {', '.join(_NAMES)}; choose one of them")
    return _Writer(part, short=_NAMES[precision]).written()


class _Writer:
    """One part on its way from float32 to its types."""

    def __init__(self, part: FloatPart, *, short: _Name) -> None:
        self._part = part
        self._short: _Name = short
        # where float16 is asked to sum in float32, products that TensorRT would join are joined before
        model = join_products(part.model, keep=part.float_nodes) if short == "float16" else part.model
        self._graph = graph = Graph(model)
        types = graph.types()
        self._float = {name for name, kind in types.items() if kind.element == FLOAT}
        self._computing = {node.name for node in graph.nodes if touched(node, types)}
        self._floats = frozenset(self._computing)
        if short != "float32":
            self._floats = float_nodes(graph, types=types, forced=part.float_nodes)
        self._type: dict[str, _Name] = {}  # of every floating point tensor made so far
        self._names: dict[tuple[str, _Name], str] = {}  # what a tensor is called in a type
        self._stored: dict[str, TensorProto] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._layers: Counter[tuple[str, str]] = Counter()

    def written(self) -> PartGraph:
        """The part with its types."""
        inputs = [self._door(entry) for entry in self._graph.model.graph.input]
        outputs = [self._door(entry) for entry in self._graph.model.graph.output]
        for door in inputs:
            self._type[door.name] = door.dtype
        given = {door.name: door.dtype for door in outputs}
        for node in self._graph.nodes:
            self._write(node, given)
        layers: dict[str, dict[str, int]] = {}
        for (operation, kind), count in sorted(self._layers.items()):
            layers.setdefault(operation, {})[kind] = count
        islands = (node for node in self._graph.nodes if node.name in self._floats and node.op_type not in MOVES)
        return PartGraph(
            name=self._part.name,
            model=self._model(inputs, outputs),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            islands=tuple(node.name for node in islands),
            layers=layers,
        )

    def _write(self, node: onnx.NodeProto, given: Mapping[str, _Name]) -> None:
        """Append one node with its inputs in its type."""
        if node.name not in self._computing:
            self._nodes.append(node)
            self._keep(node.input)
            return
        kind: _Name = "float32" if node.name in self._floats else self._short
        self._layers[node.op_type, kind] += 1
        if node.op_type == "Identity" and self._type.get(node.input[0], kind) != kind:
            self._convert(node.input[0], node.output[0], kind, name=node.name)
            self._type[node.output[0]] = kind
        elif self._is_wide(node, kind):
            self._write_wide(node)
        else:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            fixed = _FIXED.get(node.op_type, ())
            copy.input[:] = [
                self._in(name, "float32" if place in fixed else kind) for place, name in enumerate(node.input)
            ]
            self._nodes.append(copy)
            for name in node.output:
                if name in self._float:
                    self._type[name] = kind
        for name in node.output:
            if name in given and self._type[name] != given[name]:
                self._give(name, given[name])

    def _give(self, name: str, kind: _Name) -> None:
        """Let what was made as `name` leave by the door of that name in another type."""
        made = self._type[name]
        inner = f"{name}@{made}"
        node = self._nodes[-1]
        node.output[:] = [inner if each == name else each for each in node.output]
        self._type[inner], self._type[name] = made, kind
        self._names[name, made] = inner
        self._convert(inner, name, kind)

    def _is_wide(self, node: onnx.NodeProto, kind: _Name) -> bool:
        """Whether a product of float16 is written so that its sums are float32."""
        if kind != "float16" or node.op_type not in _MATRIX_PRODUCTS:
            return False
        stored = [name in self._graph.constants for name in node.input[:2]]
        makers = [self._graph.makers.get(name) for name in node.input[:2]]
        quantised = any(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)
        plain = all(attribute(node, name) in (None, 1.0) for name in ("alpha", "beta"))
        return sum(stored) == 1 and not quantised and plain

    def _write_wide(self, node: onnx.NodeProto) -> None:
        """A product of float16 between conversions to float32 and back; what is added comes after, in float16."""
        output = node.output[0]
        bias = node.input[2] if len(node.input) > 2 else ""
        wide, narrow = f"{output}@wide", f"{output}@narrow" if bias else output
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._widened(name) for name in node.input[:2]]
        copy.output[:] = [wide]
        self._nodes.append(copy)
        self._convert(wide, narrow, self._short)
        if bias:
            terms = [narrow, self._in(bias, self._short)]
            self._nodes.append(helper.make_node("Add", terms, [output], name=f"{node.name}@bias"))
            self._layers["Add", self._short] += 1
        self._type[output] = self._short

    def _widened(self, name: str) -> str:
        """The float16 tensor `name` converted to float32; of a constant that is stored in both, the float16."""
        short = self._in(name, self._short)
        place: tuple[str, _Name] = (f"{short}@wide" if name in self._graph.constants else short, "float32")
        if place not in self._names:
            self._names[place] = f"{short}@wide"
            self._convert(short, f"{short}@wide", "float32")
        return self._names[place]

    def _in(self, name: str, kind: _Name) -> str:
        """Name of a tensor in a type, converted where it is of another; what is no floating point number stays."""
        if name not in self._float:
            self._keep([name])
            return name
        if (name, kind) in self._names:
            return self._names[name, kind]
        if name in self._graph.constants:
            return self._constant(name, kind)
        if self._type[name] == kind:
            return name
        self._names[name, kind] = f"{name}@{kind}"
        self._convert(name, f"{name}@{kind}", kind)
        return f"{name}@{kind}"

    def _convert(self, before: str, after: str, kind: _Name, *, name: str = "") -> None:
        self._nodes.append(
            helper.make_node("Cast", [before], [after], name=name or f"cast:{after}", to=_ELEMENTS[kind])
        )
        self._layers["Cast", kind] += 1

    def _keep(self, names: Iterable[str]) -> None:
        """Store constants that have one type alone."""
        for name in names:
            if name in self._graph.constants:
                self._stored[name] = self._graph.constants[name]

    def _constant(self, name: str, kind: _Name) -> str:
        """Store a constant in a type."""
        tensor = self._graph.constants[name]
        stored = name if name not in self._stored else f"{name}@{kind}"
        if kind == "float32":
            copy = tensor
            if stored != name:
                copy = TensorProto()
                copy.CopyFrom(tensor)
                copy.name = stored
            self._stored[stored] = copy
        else:
            self._stored[stored] = self._shortened(tensor, stored, kind)
        self._names[name, kind] = stored
        return stored

    def _shortened(self, tensor: TensorProto, name: str, kind: _Name) -> TensorProto:
        values = numpy_helper.to_array(tensor)
        bits, back = _to_float16(values) if kind == "float16" else _to_bfloat16(values)
        broken = np.isfinite(values) & ~np.isfinite(back)
        if broken.any():
            raise PlanError(
                f"{self._part.name} stores {float(np.abs(values[broken]).max()):.3g} in {tensor.name}, which {kind} "
                "does not hold; build with --precision bf16 or fp32"
            )
        if any(tensor.name == node.input[1] for node in self._graph.readers[tensor.name] if node.op_type in _SCALED):
            with np.errstate(divide="ignore", invalid="ignore"):
                off = np.abs(back / values - 1).max()
            if not off <= _SCALE_ERROR:
                raise PlanError(
                    f"{self._part.name} quantises by {tensor.name}, which {kind} holds to {off:.1%} only; build with "
                    "--precision bf16, or leave that layer out"
                )
        return TensorProto(name=name, data_type=_ELEMENTS[kind], dims=tensor.dims, raw_data=bits.tobytes())

    def _door(self, entry: onnx.ValueInfoProto) -> Door:
        axes = entry.type.tensor_type.shape.dim
        shape = [axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in axes]
        kind = "float32" if entry.name in self._part.float_doors else self._short
        try:
            return Door.model_validate({"name": entry.name, "dtype": kind, "shape": tuple(shape)})
        except ValidationError as error:
            raise PlanError(
                f"{self._part.name} has a door {entry.name} of shape {shape}, expected B, perhaps T, and numbers; "
                "export the plan again"
            ) from error

    def _model(self, inputs: Iterable[Door], outputs: Iterable[Door]) -> bytes:
        ins, outs = (
            [value(door.name, door.shape, element=_ELEMENTS[door.dtype]) for door in doors]
            for doors in (inputs, outputs)
        )
        like = self._graph.model
        model = assemble(like, self._nodes, inputs=ins, outputs=outs, stored=self._stored.values())
        if any(node.op_type in _SCALED for node in self._nodes):
            for entry in model.opset_import:
                if entry.domain in ("", "ai.onnx"):
                    entry.version = max(entry.version, _WITH_SHORT_SCALES)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def _to_float16(values: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """The numbers as they are stored, and what they are then."""
    with np.errstate(over="ignore"):
        short = values.astype(np.float16)
    return short, short.astype(np.float32)


def _to_bfloat16(values: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """The same; NumPy has no bfloat16, which is the upper half of a float32, rounded to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    short = np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype(np.uint16)
    return short, (short.astype(np.uint32) << 16).view(np.float32)
