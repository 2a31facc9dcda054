"""Products that OpenVINO computes faster with a bound behind them."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset14 as ops

from uperfuse.engine.backends.cpu.compiling import compile_graph
from uperfuse.engine.backends.cpu.graphs import bound_long_products


def perceptron(terms, *, bias=True, residual=True):
    """A product with a stored matrix, its bias and the sum that it goes into."""
    rng = np.random.default_rng(0)
    hidden = ops.parameter([1, 32, terms], np.float32)
    stream = ops.parameter([1, 32, 64], np.float32)
    result = ops.matmul(hidden, ops.constant(rng.normal(0, 0.1, (terms, 64)).astype(np.float32)), False, False)
    if bias:
        result = ops.add(result, ops.constant(rng.normal(0, 1, 64).astype(np.float32)))
    result = ops.add(stream, result) if residual else ops.relu(result)
    return ov.Model([ops.result(result)], [hidden, stream])


def bounds(model):
    return [node for node in model.get_ops() if node.get_type_name() == "Clamp"]


def test_a_long_product_is_bounded_once_and_gives_the_same_numbers():
    rng = np.random.default_rng(1)
    inputs = [rng.normal(0, 1, (1, 32, 1024)).astype(np.float32), rng.normal(0, 1, (1, 32, 64)).astype(np.float32)]
    model = perceptron(1024)
    bound_long_products(model)
    bound_long_products(model)
    assert len(bounds(model)) == 1
    compiled = compile_graph(perceptron(1024), key="x", precision="float32", threads=1)
    matrix, bias = (node.data for node in perceptron(1024).get_ordered_ops() if node.get_type_name() == "Constant")
    if matrix.ndim == 1:
        matrix, bias = bias, matrix
    expected = inputs[1] + inputs[0] @ matrix + bias.reshape(-1)
    assert np.abs(compiled(inputs)[0] - expected).max() < 1e-4


@pytest.mark.parametrize(
    "model", [perceptron(512), perceptron(1024, bias=False), perceptron(1024, residual=False)], ids=str
)
def test_other_products_are_left_alone(model):
    bound_long_products(model)
    assert not bounds(model)


def test_only_float32_is_bounded():
    for precision, count in (("float32", 1), ("bf16", 0)):
        model = perceptron(1024)
        compile_graph(model, key="x", precision=precision, threads=1)
        assert len(bounds(model)) == count
