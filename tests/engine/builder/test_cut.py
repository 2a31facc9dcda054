"""Encoders of series, cut at their attention: the halves and the parameters give the whole back, or are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.conftest import ROOT, randomise, small_spec
from uperfuse.engine import Plan, PlanError
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.builder import float_parts
from uperfuse.engine.builder.attention import aggregate, attend, positions
from uperfuse.engine.builder.cut import MAX_RELATIVE_ERROR, Cut, check_cut, cut_encoder
from uperfuse.engine.builder.onnx_graph import Graph, read_segment
from uperfuse.engine.builder.part_graph import AttentionArrays
from uperfuse.kernels.temporal_aggregate import reference as aggregate_reference
from uperfuse.kernels.temporal_attention import AttentionWeights
from uperfuse.kernels.temporal_attention import reference as attention_reference
from uperfuse.trainer.export.graph import export_graph
from uperfuse.trainer.export.segments import SegmentModule, _SeriesEncoder
from uperfuse.trainer.network import UPerFuse

from .running import run

H, C, D, K = 4, 12, 20, 3
SHAPES = [(1, 1, 2, 3), (2, 7, 3, 2), (3, 4, 1, 5)]
MASKS = {"real": lambda b, t: t >= 0, "some": lambda b, t: (b + t) % 3 != 1, "first none": lambda b, t: b > 0}


def weights_of(seed: int) -> AttentionWeights:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return AttentionWeights(draw(C), draw(C), draw(D, C), draw(D), draw(H * K, D), draw(H * K), draw(H, K), 700.0)


def arrays_of(weights: AttentionWeights) -> AttentionArrays:
    score, score_position, score_bias = attention_reference.absorb(weights)
    tensors = (weights.norm_scale, weights.norm_shift, score, score_position, score_bias, weights.embed)
    return AttentionArrays(*(each.numpy() for each in (*tensors, weights.embed_bias)), period=weights.period)


@pytest.mark.parametrize("masked", MASKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_attention_is_the_kernels(shape, masked):
    B, T, Y, X = shape
    rng = np.random.default_rng(B + T)
    features, days = rng.standard_normal((B, T, Y, X, C)) * 40, rng.uniform(-120, 240, (B, T))
    mask = np.fromfunction(MASKS[masked], (B, T)).astype(np.float64)
    weights = weights_of(T)
    maps = np.moveaxis(features, -1, 2)
    expected = attention_reference.temporal_attention(*map(torch.from_numpy, (maps, days, mask)), weights=weights)
    context, attention = attend(features, days, mask, arrays=arrays_of(weights))
    np.testing.assert_allclose(context, np.moveaxis(expected[0].numpy(), 1, -1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(attention, np.moveaxis(expected[1].numpy(), 1, -1), rtol=1e-9, atol=1e-12)
    if masked == "first none":
        assert not context[0].any()
    made = positions(days, entries=6, period=700.0)
    asked = attention_reference.positions(torch.from_numpy(days), width=6, period=700.0)
    np.testing.assert_allclose(made, asked.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_over_dates_are_the_kernels(shape):
    B, T, Y, X = shape
    rng = np.random.default_rng(T)
    maps, attention = rng.standard_normal((B, T, Y, X, 2 * H)), rng.uniform(size=(B, T, Y, X, H))
    expected = aggregate_reference.naive(
        torch.from_numpy(np.moveaxis(maps, -1, 2)), torch.from_numpy(np.moveaxis(attention, -1, 1))
    )
    np.testing.assert_allclose(aggregate(maps, attention), np.moveaxis(expected.numpy(), 1, -1), rtol=1e-12)


@pytest.mark.parametrize("name", ["all", "series"])
def test_parameters_are_those_of_the_network(plans, name):
    path, network = plans(name)
    with Plan.open(path) as plan:
        found = float_parts(plan, cut=True).attention
    assert list(found) == [series.name for series in network.spec.series]
    for series, arrays in found.items():
        encoder = network.encoders[series].temporal_encoder
        score, score_position, score_bias = attention_reference.absorb(
            AttentionWeights(
                norm_scale=encoder.in_norm.weight,
                norm_shift=encoder.in_norm.bias,
                embed=encoder.inconv.weight[..., 0],
                embed_bias=encoder.inconv.bias,
                key=encoder.attention_heads.fc1_k.weight,
                key_bias=encoder.attention_heads.fc1_k.bias,
                query=encoder.attention_heads.Q,
            )
        )
        assert arrays.period == 1000.0
        for got, expected in (
            (arrays.norm_scale, encoder.in_norm.weight),
            (arrays.norm_shift, encoder.in_norm.bias),
            (arrays.score, score),
            (arrays.score_position, score_position),
            (arrays.score_bias, score_bias),
            (arrays.embed, encoder.inconv.weight[..., 0]),
            (arrays.embed_bias, encoder.inconv.bias),
        ):
            assert got.dtype == np.float32
            assert got.flags.c_contiguous
            np.testing.assert_allclose(got, expected.detach().numpy(), rtol=2e-5, atol=2e-6)


def test_the_shipped_plan_is_cut():
    with Plan.open(ROOT / "models" / "uperfuse-small.plan") as plan:
        parts = float_parts(plan, cut=True)
        assert set(parts.attention) == {"SENTINEL2_TS", "SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS"}
        doors = [entry.name for entry in parts.part("spatial:SENTINEL2_TS").model.graph.output]
        assert doors == ["skip0", "skip1", "skip2", "features"]


@pytest.fixture(scope="module")
def graph(plans):
    """The encoder of a small network's Sentinel-2 series."""
    path, _ = plans("all")
    with Plan.open(path) as plan:
        return read_segment(plan, "encoder:SENTINEL2_TS")


@pytest.fixture(scope="module")
def cut(graph):
    return cut_encoder(graph, series="SENTINEL2_TS")


def without_bias(cut: Cut) -> Cut:
    return replace(cut, attention=replace(cut.attention, embed_bias=0 * cut.attention.embed_bias))


def turned_heads(cut: Cut) -> Cut:
    return replace(cut, attention=replace(cut.attention, score=cut.attention.score[::-1]))


def another_period(cut: Cut) -> Cut:
    return replace(cut, attention=replace(cut.attention, period=900.0))


def swapped_sums(cut: Cut) -> Cut:
    temporal = onnx.ModelProto()
    temporal.CopyFrom(cut.temporal)
    names = {"sum0": "sum1", "sum1": "sum0"}
    for node in temporal.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    return replace(cut, temporal=temporal)


@pytest.mark.parametrize("wrong", [without_bias, turned_heads, another_period, swapped_sums])
def test_a_cut_that_does_not_give_the_whole_back_is_refused(graph, cut, wrong):
    with pytest.raises(
        PlanError, match=r"SENTINEL2_TS, cut at its attention, differs from the whole by .*--no-kernels"
    ):
        check_cut(graph, wrong(cut), series="SENTINEL2_TS")


def test_a_cut_is_as_close_as_float32_allows(graph, cut):
    assert 0 < check_cut(graph, cut, series="SENTINEL2_TS") < MAX_RELATIVE_ERROR / 2


def edited(graph: Graph, edit) -> Graph:
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    edit(model.graph)
    return Graph(model)


def node_of(graph: onnx.GraphProto, kind: str) -> onnx.NodeProto:
    return next(node for node in graph.node if node.op_type == kind)


def no_softmax(graph):
    node_of(graph, "Softmax").op_type = "Sigmoid"


def another_epsilon(graph):
    root = node_of(graph, "Sqrt").input[0]
    name = next(node.input[1] for node in graph.node if root in node.output)
    (tensor,) = (each for each in graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.float32(1e-3), name))


def cosines_first(graph):
    choice = next(node for node in graph.node if node.op_type == "Where" and node.input[1].startswith("sin"))
    choice.input[1], choice.input[2] = choice.input[2], choice.input[1]


def positions_of_the_mask(graph):
    for node in graph.node:
        if node.op_type == "Unsqueeze":
            node.input[0] = {"days": "mask"}.get(node.input[0], node.input[0])


def periods_of_no_power(graph):
    divided = next(node for node in graph.node if node.output[0] in node_of(graph, "Sin").input)
    (tensor,) = (each for each in graph.initializer if each.name == divided.input[1])
    values = numpy_helper.to_array(tensor).copy()
    values[1] *= 1.01
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (no_softmax, "0 softmaxes"),
        (another_epsilon, "a normalisation with epsilon"),
        (cosines_first, "Cos in the place of Sin"),
        (positions_of_the_mask, "scores that are not a product plus a term of dates|sines and cosines of the days"),
        (periods_of_no_power, "no powers of one period"),
    ],
)
def test_another_attention_is_refused_and_the_way_out_is_named(graph, edit, words):
    with pytest.raises(PlanError, match=rf"encoder of SENTINEL2_TS holds .*({words}).*--no-kernels"):
        cut_encoder(edited(graph, edit), series="SENTINEL2_TS")


def test_a_tile_need_not_be_square():
    torch.manual_seed(5)
    network = UPerFuse(small_spec("all")).eval()
    randomise(network)
    inputs = {
        "pixels": torch.rand(2, 6, 10, 5, 8) * 2000,
        "days": torch.linspace(-90, 150, 6).repeat(2, 1),
        "mask": torch.tensor([[1.0] * 6, [1.0, 0, 1, 1, 0, 1]]),
    }
    names = ("level0", "level1", "level2", "level3")
    segment = SegmentModule("encoder:S", _SeriesEncoder(network, "SENTINEL2_TS"), inputs, names, series=True)
    graph = Graph(onnx.load_from_string(export_graph(segment).data)).folded()
    cut = cut_encoder(graph, series="S")
    assert check_cut(graph, cut, series="S") <= MAX_RELATIVE_ERROR

    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    *skips, features = run(cut.spatial, arrays).values()
    assert features.shape == (2, 6, 5, 8, 32)
    context, attention = attend(features, arrays["days"], arrays["mask"], arrays=cut.attention)
    sums = {f"sum{place}": aggregate(skip, attention).astype(np.float32) for place, skip in enumerate(skips)}
    levels = run(cut.temporal, {"context": context.astype(np.float32), **sums})
    with torch.inference_mode():
        expected = segment.module(*inputs.values())
    for level, asked in zip(levels.values(), expected, strict=True):
        assert relative_error(level, np.moveaxis(asked.numpy(), 1, -1)) <= 1e-4
