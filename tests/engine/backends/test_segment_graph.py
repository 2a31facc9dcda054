"""Graphs that share weights, with those of a plan's own side or another sensor's, are put together, or refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from uperfuse.engine import PlanError
from uperfuse.engine.backends.segment_graph import segment_graph

RNG = np.random.default_rng(5)
WEIGHT, SCALE = RNG.normal(size=(300, 300)).astype(np.float32), RNG.normal(size=(1, 300)).astype(np.float32)
OWN, OTHER, LENDER = "segments/own.onnx", "segments/96/own.onnx", "segments/lender.onnx"


class Stored:
    """What `segment_graph` asks of a plan."""

    def __init__(self, **members: onnx.ModelProto) -> None:
        names = {"own": OWN, "other": OTHER, "lender": LENDER}
        self.members = {names[given]: graph for given, graph in members.items()}
        self.manifest = self

    base_px = 96

    def segment(self, _: str):
        return type("Segment", (), {"member": OTHER})

    def lenders(self, _: str) -> tuple[str, ...]:
        return tuple(name for name in (OWN, LENDER) if name in self.members)

    def member(self, name: str) -> memoryview:
        return memoryview(self.members[name].SerializeToString())


def model(*initializers: onnx.TensorProto, bias: str = "bias") -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node("Mul", ["product", "scale"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "", bias], ["y"]),
    ]
    doors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 300]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", doors[:1], doors[1:], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def tensors(**arrays: np.ndarray) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def test_what_a_graph_lacks_is_taken_from_the_other_and_nothing_else():
    own = model(*tensors(weight=WEIGHT, scale=SCALE, bias=np.float32(0.5), unused=np.zeros(7, np.float32)))
    other = model(*tensors(bias=np.float32(-0.25)))
    merged = onnx.load_from_string(bytes(segment_graph(Stored(own=own, other=other), "encoder:X")))
    onnx.checker.check_model(merged, full_check=True)
    assert {tensor.name for tensor in merged.graph.initializer} == {"weight", "scale", "bias"}
    x = RNG.normal(size=(4, 300)).astype(np.float32)
    (got,) = ReferenceEvaluator(merged).run(None, {"x": x})
    np.testing.assert_array_equal(got, np.minimum(x @ WEIGHT * SCALE, np.float32(-0.25)))


def test_the_first_lender_that_has_a_weight_gives_it():
    x = RNG.normal(size=(4, 300)).astype(np.float32)
    # the own graph lacks the weight itself, and means another scale than the lender does
    plan = Stored(
        own=model(*tensors(scale=SCALE, bias=np.float32(0))),
        other=model(*tensors(bias=np.float32(-0.25))),
        lender=model(*tensors(weight=WEIGHT, scale=-SCALE, bias=np.float32(9))),
    )
    merged = onnx.load_from_string(bytes(segment_graph(plan, "encoder:X")))
    onnx.checker.check_model(merged, full_check=True)
    assert sorted(tensor.name for tensor in merged.graph.initializer) == ["bias", "scale", "weight"]
    (got,) = ReferenceEvaluator(merged).run(None, {"x": x})
    np.testing.assert_array_equal(got, np.minimum(x @ WEIGHT * SCALE, np.float32(-0.25)))
    lacking = Stored(own=model(), other=model(*tensors(bias=np.float32(0))), lender=model(*tensors(weight=WEIGHT)))
    with pytest.raises(PlanError, match=f"reads 'scale', which neither its graph nor {OWN} nor {LENDER} gives"):
        segment_graph(lacking, "encoder:X")


def test_a_graph_that_lacks_nothing_is_not_copied():
    whole = model(*tensors(weight=WEIGHT, scale=SCALE, bias=np.float32(0)))
    plan = Stored(own=model(), other=whole)
    assert bytes(segment_graph(plan, "encoder:X")) == bytes(plan.member(OTHER))


def test_a_weight_that_nobody_has_is_refused_by_name():
    plan = Stored(own=model(*tensors(weight=WEIGHT)), other=model(*tensors(bias=np.float32(0))))
    with pytest.raises(PlanError, match="encoder:X for tiles of 96 px reads 'scale', which neither its graph nor segm"):
        segment_graph(plan, "encoder:X")


def test_a_lender_that_names_another_file_is_refused():
    own = model(*tensors(weight=WEIGHT, scale=SCALE))
    own.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(PlanError, match="holds weights in another file"):
        segment_graph(Stored(own=own, other=model(*tensors(bias=np.float32(0)))), "encoder:X")
