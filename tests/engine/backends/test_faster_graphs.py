"""What is put into graphs so that OpenVINO runs them faster, and changes no number."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset14 as ops

from uperfuse.engine.agreement import relative_error
from uperfuse.engine.backends.cpu.compiling import compile_graph
from uperfuse.engine.backends.cpu.graphs import bound_long_products, shorten_streams
from uperfuse.engine.backends.cpu.segments import CpuSegments, CpuSession
from uperfuse.engine.backends.cpu.steps import Steps
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.plan.plan import Plan
from uperfuse.engine.stopwatch import Stopwatch
from uperfuse.engine.tiles import check_tiles


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


def stream(*, projected=False):
    """A residual sum that leaves the graph as a map, or goes through a projection first."""
    rng = np.random.default_rng(0)
    tokens = ops.parameter([1, 6, 5, 16], np.float32, name="tokens")
    product = ops.matmul(tokens, ops.constant(rng.normal(0, 0.2, (16, 16)).astype(np.float32)), False, False)
    map_ = ops.transpose(ops.add(tokens, product), ops.constant(np.array([0, 3, 1, 2])))
    if projected:
        weights = ops.constant(rng.normal(0, 0.2, (16, 16, 1, 1)).astype(np.float32))
        map_ = ops.convolution(map_, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    map_.output(0).set_names({"level0"})
    return ov.Model([ops.result(map_)], [tokens])


def kinds(model):
    return [node.get_type_name() for node in model.get_ops()]


def test_a_stream_that_leaves_a_graph_ends_in_a_product_that_changes_nothing():
    model = stream()
    shorten_streams(model)
    shorten_streams(model)
    assert kinds(model).count("GroupConvolution") == 1
    assert [port.get_any_name() for port in model.outputs] == ["level0"]
    tokens = np.random.default_rng(1).normal(0, 1, (1, 6, 5, 16)).astype(np.float32)
    got, expected = (
        compile_graph(each, key="x", precision="float32", threads=1)(tokens)[0] for each in (model, stream())
    )
    assert np.array_equal(got, expected)


def test_a_stream_behind_a_projection_is_left_alone():
    model = stream(projected=True)
    shorten_streams(model)
    assert "GroupConvolution" not in kinds(model)


@pytest.mark.parametrize("name", ["aerial", "all"])
def test_one_graph_of_base_and_decoders_gives_the_numbers_of_several(plans, name):
    with Plan.open(plans(name)[0]) as plan:
        (tile,) = check_tiles(check_tiles_of(plan.manifest, seed=6, dates=4), manifest=plan.manifest, voids=None)
        found = {}
        for join in (True, False):
            segments = CpuSegments(plan, precision="float32", threads=1, join=join)
            assert segments.joined == join
            steps, session = Steps(plan.manifest, segments, Stopwatch()), CpuSession(segments)
            fused = steps.fuse(session, steps.encode(session, tile))
            found[join] = {task: logits.copy() for task, logits in steps.logits(session, fused)}
            segments.close()
        assert list(found[True]) == list(found[False]) == [task.name for task in plan.manifest.tasks]
        for task, logits in found[True].items():
            assert relative_error(logits, found[False][task]) < 1e-5
