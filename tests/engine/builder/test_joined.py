"""Products of one map become one product, and every number stays what it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from uperfuse.engine.builder.joined import join_products

WIDTHS = {"q": 6, "k": 6, "v": 10}


def projections(*, biases=("q", "k", "v"), seen=()):
    """Queries, keys and values of the same tokens [B, 5, 8]."""
    rng = np.random.default_rng(0)
    nodes, stored, outputs = [], [], []
    for name, width in WIDTHS.items():
        stored.append(numpy_helper.from_array(rng.normal(size=(8, width)).astype(np.float32), f"{name}.weight"))
        nodes.append(helper.make_node("MatMul", ["tokens", f"{name}.weight"], [f"{name}.product"], name=f"{name}:mul"))
        last = f"{name}.product"
        if name in biases:
            stored.append(numpy_helper.from_array(rng.normal(size=width).astype(np.float32), f"{name}.bias"))
            terms = [f"{name}.bias", last] if name == "k" else [last, f"{name}.bias"]
            nodes.append(helper.make_node("Add", terms, [name], name=f"{name}:add"))
            last = name
        outputs.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, ["B", 5, width]))
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in seen]
    tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["B", 5, 8])
    graph = helper.make_graph(nodes, "projections", [tokens], outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def results(model):
    tokens = np.random.default_rng(1).normal(size=(3, 5, 8)).astype(np.float32)
    return ReferenceEvaluator(model).run(None, {"tokens": tokens})


def kinds(model):
    return sorted(node.op_type for node in model.graph.node)


def test_three_products_become_one():
    model = projections()
    before = model.SerializeToString()
    joined = join_products(model)
    assert model.SerializeToString() == before
    assert kinds(joined) == ["Add", "MatMul", "Split"]
    onnx.checker.check_model(joined, full_check=True)
    assert {tuple(tensor.dims) for tensor in joined.graph.initializer} == {(8, 22), (22,), (3,)}
    for one, other in zip(results(joined), results(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "keep", "left"),
    [
        (projections(biases=("q", "v")), (), ["Add", "MatMul", "MatMul", "Split"]),
        (projections(), ("k:mul",), ["Add", "Add", "MatMul", "MatMul", "Split"]),
        (projections(), ("v:add",), ["Add", "Add", "MatMul", "MatMul", "Split"]),
        (projections(seen=("q.product",)), (), ["Add", "Add", "MatMul", "MatMul", "Split"]),
    ],
    ids=["no bias", "a product is kept", "a sum is kept", "a product is asked for"],
)
def test_others_stay(model, keep, left):
    joined = join_products(model, keep=keep)
    assert kinds(joined) == left
    for one, other in zip(results(joined), results(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("biases", [(), ("k",)], ids=["none", "one"])
def test_nothing_to_join(biases):
    model = projections(biases=biases)
    assert join_products(model) is model
