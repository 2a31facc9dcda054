"""ONNX graphs as this package reads and writes them: flat, indexed by tensor, constants evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf says no types
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from ..backends.segment_graph import segment_graph
from ..errors import PlanError
from ..plan.plan import Plan

__all__ = ["FLOAT", "Graph", "TensorType", "assemble", "attribute", "read_segment", "renamed", "transpose", "value"]

FLOAT = onnx.TensorProto.FLOAT

_SMALL_BYTES = 4096
_RANDOM = ("Random", "Multinomial", "Bernoulli", "Dropout")


@dataclass(frozen=True)
class TensorType:
    """Element type (of `onnx.TensorProto`) and shape; an axis that varies is a name, an unknown one an empty string."""

    element: int
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """A model with its nodes found by the tensors that they make and read.

    Attributes:
        model: which is not changed.
        nodes: in the order in which they can run.
        constants: stored tensors by name.
        makers: tensor -> the node that makes it.
        readers: tensor -> nodes that read it, in order.
    """

    model: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...] = field(init=False)
    constants: Mapping[str, onnx.TensorProto] = field(init=False)
    makers: Mapping[str, onnx.NodeProto] = field(init=False)
    readers: Mapping[str, Sequence[onnx.NodeProto]] = field(init=False)

    def __post_init__(self) -> None:
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in dict.fromkeys(node.input):
                if name:
                    readers.setdefault(name, []).append(node)
        parts: dict[str, object] = {
            "nodes": tuple(self.model.graph.node),
            "constants": {tensor.name: tensor for tensor in self.model.graph.initializer},
            "makers": {name: node for node in self.model.graph.node for name in node.output if name},
            "readers": readers,
        }
        for name, part in parts.items():
            object.__setattr__(self, name, part)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs, in order."""
        return tuple(entry.name for entry in self.model.graph.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        return tuple(entry.name for entry in self.model.graph.output)

    def array(self, name: str) -> NDArray[np.generic] | None:
        """Values of a stored tensor; None where `name` is not one."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def before(self, outputs: Iterable[str], *, stop: Iterable[str] = ()) -> tuple[onnx.NodeProto, ...]:
        """Nodes needed to make `outputs` from the tensors `stop` (and the graph's inputs), in order."""
        wanted, known = list(outputs), set(stop)
        needed: set[str] = set()
        while wanted:
            name = wanted.pop()
            node = self.makers.get(name)
            if name in known or node is None:
                continue
            known.add(name)
            needed.add(node.output[0])
            wanted += [each for each in node.input if each]
        return tuple(node for node in self.nodes if node.output[0] in needed)

    def behind(self, names: Iterable[str]) -> frozenset[str]:
        """`names` and the tensors whose values depend on theirs; what only asks for a shape does not."""
        found = set(names)
        for node in self.nodes:
            if node.op_type != "Shape" and not found.isdisjoint(node.input):
                found |= set(node.output)
        return frozenset(found)

    def types(self) -> dict[str, TensorType]:
        """Types of all tensors, as far as ONNX can infer them.

        Raises:
            PlanError: they contradict each other.
        """
        found = {}
        try:
            inferred = shape_inference.infer_shapes(self.skeleton(), data_prop=True).graph
        except shape_inference.InferenceError as error:
            raise PlanError(f"shapes of a segment do not fit each other ({error}); export the plan again") from error
        for entry in (*inferred.input, *inferred.value_info, *inferred.output):
            found[entry.name] = _type_of(entry)
        for name, tensor in self.constants.items():
            found[name] = TensorType(tensor.data_type, tuple(tensor.dims))
        return found

    def skeleton(self) -> onnx.ModelProto:
        """The model with large constants as inputs: inference copies its graph, and asks for none of their values."""
        graph = self.model.graph
        inputs, kept = list(graph.input), []
        for tensor in graph.initializer:
            if tensor.data_type == FLOAT and 4 * int(np.prod(tensor.dims)) > _SMALL_BYTES:
                inputs.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            else:
                kept.append(tensor)
        return _model(graph.node, graph.name, inputs, list(graph.output), kept, like=self.model)

    def folded(self) -> Graph:
        """The graph with everything evaluated that depends on constants alone.

        Raises:
            PlanError: a constant cannot be evaluated.
        """
        known = set(self.constants)
        constant, rest = [], []
        for node in self.nodes:
            static = all(name in known for name in node.input if name) and (node.input or node.op_type == "Constant")
            if static and not node.op_type.startswith(_RANDOM):
                constant.append(node)
                known |= set(node.output)
            else:
                rest.append(node)
        made = {name for node in constant for name in node.output}
        asked = [name for name in dict.fromkeys(_read_by(rest, self.outputs)) if name in made]
        if not constant:
            return self
        stored = [*self.constants.values(), *self._evaluate(constant, asked)]
        return Graph(
            assemble(self.model, rest, inputs=self.model.graph.input, outputs=self.model.graph.output, stored=stored)
        )

    def _evaluate(self, nodes: Sequence[onnx.NodeProto], asked: Sequence[str]) -> Iterator[onnx.TensorProto]:
        if not asked:
            return
        outputs = [helper.make_empty_tensor_value_info(name) for name in asked]
        read = set(_read_by(nodes, asked))
        stored = [tensor for name, tensor in self.constants.items() if name in read]
        model = _model(nodes, "constants", [], outputs, stored, like=self.model)
        try:
            values = ReferenceEvaluator(model).run(None, {})
        except Exception as error:  # operators raise what they like
            raise PlanError(f"constants of a segment cannot be evaluated: {error}; export the plan again") from error
        for name, value in zip(asked, values, strict=True):
            yield numpy_helper.from_array(np.asarray(value), name)


def read_segment(plan: Plan, name: str) -> Graph:
    """The graph of a plan's segment, its constants evaluated.

    Args:
        plan: an open plan.
        name: of the segment.

    Raises:
        PlanError: the segment is no flat ONNX graph with its weights inside.
    """
    content = segment_graph(plan, name)
    try:
        graph = Graph(_named(onnx.ModelProto.FromString(content)))
        onnx.checker.check_model(graph.skeleton())
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise PlanError(f"segment {name} is not a valid ONNX graph ({reason}); export the plan again") from error
    listed = plan.manifest.segment(name)
    doors = [[spec.name for spec in specs] for specs in (listed.inputs, listed.outputs)]
    if [list(graph.inputs), list(graph.outputs)] != doors:
        raise PlanError(
            f"segment {name} has doors {[*graph.inputs, *graph.outputs]}, its plan lists {[*doors[0], *doors[1]]}; "
            "export the plan again"
        )
    return graph.folded()


def assemble(
    like: onnx.ModelProto,
    nodes: Iterable[onnx.NodeProto],
    *,
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
    stored: Iterable[onnx.TensorProto],
) -> onnx.ModelProto:
    """A model of these nodes, with those of the stored tensors that they read.

    Args:
        like: model whose operator set and name it takes.
        nodes: in the order in which they can run.
        inputs: of the graph.
        outputs: of the graph.
        stored: constants, among them those that the nodes read.
    """
    nodes, outputs = list(nodes), list(outputs)
    read = set(_read_by(nodes, [entry.name for entry in outputs]))
    return _model(
        nodes, like.graph.name, list(inputs), outputs, [each for each in stored if each.name in read], like=like
    )


def value(name: str, shape: Sequence[int | str], *, element: int = FLOAT) -> onnx.ValueInfoProto:
    """A graph's input or output."""
    return helper.make_tensor_value_info(name, element, shape)


def transpose(before: str, after: str, order: Sequence[int]) -> onnx.NodeProto:
    """A node that puts the axes of `before` into another order, named by what it makes."""
    return helper.make_node("Transpose", [before], [after], name=f"transpose:{after}", perm=list(order))


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """Value of a node's attribute; None where it has none of that name."""
    for each in node.attribute:
        if each.name == name:
            return helper.get_attribute_value(each)
    return None


def renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """The node with some of its tensors called otherwise; the node itself where it has none of them."""
    if names.keys().isdisjoint((*node.input, *node.output)):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for tensors in (copy.input, copy.output):
        tensors[:] = [names.get(name, name) for name in tensors]
    return copy


def _model(
    nodes: Iterable[onnx.NodeProto],
    name: str,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    stored: Iterable[onnx.TensorProto],
    *,
    like: onnx.ModelProto,
) -> onnx.ModelProto:
    model = onnx.ModelProto(ir_version=like.ir_version)
    model.opset_import.extend(like.opset_import)
    model.graph.name = name
    model.graph.node.extend(nodes)
    model.graph.input.extend(inputs)
    model.graph.output.extend(outputs)
    model.graph.initializer.extend(stored)
    return model


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a name for every node, no two the same: layers and reports refer to nodes by name."""
    known: set[str] = set()
    for node in model.graph.node:
        if not node.name or node.name in known:
            node.name = f"{node.op_type}:{next(iter(node.output), '')}"
        known.add(node.name)
    return model


def _read_by(nodes: Iterable[onnx.NodeProto], outputs: Iterable[str]) -> Iterator[str]:
    for node in nodes:
        yield from (name for name in node.input if name)
    yield from outputs


def _type_of(entry: onnx.ValueInfoProto) -> TensorType:
    tensor = entry.type.tensor_type
    axes = tensor.shape.dim if tensor.HasField("shape") else ()
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in axes)
    return TensorType(tensor.elem_type, shape)
