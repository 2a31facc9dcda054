"""Parts in float32: the doors that kernels and TensorRT meet at, and the numbers of the segments behind them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import ROOT, randomise, small_spec
from uperfuse.engine import Plan, PlanError
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.builder import float_parts, write_types
from uperfuse.engine.builder.channels import cancelled
from uperfuse.engine.builder.onnx_graph import Graph, read_segment, transpose
from uperfuse.engine.builder.part_graph import segment_tensor
from uperfuse.engine.builder.parts import decoder_part, encoder_part
from uperfuse.engine.builder.transposed import as_convolutions
from uperfuse.engine.plan import write_plan
from uperfuse.trainer.export.graph import export_graph
from uperfuse.trainer.export.segments import SegmentModule, _Decoder, _ImageEncoder
from uperfuse.trainer.network import UPerFuse

from .running import draw, run, to_last

SMALL = ROOT / "models" / "uperfuse-small.plan"
PRODUCTS = {"Conv", "MatMul", "Gemm"}
SERIES_DOORS = (
    ["pixels [B,T,10,2,2]", "mask [B,T]"],
    ["skip0 [B,T,2,2,16]", "skip1 [B,T,2,2,16]", "skip2 [B,T,2,2,32]", "features [B,T,2,2,32]"],
    ["context [B,2,2,64]", "sum0 [B,2,2,16]", "sum1 [B,2,2,16]", "sum2 [B,2,2,32]"],
)


def doors(entries) -> list[str]:
    found = []
    for entry in entries:
        axes = entry.type.tensor_type.shape.dim
        assert entry.type.tensor_type.elem_type == TensorProto.FLOAT
        found.append(f"{entry.name} [{','.join(str(axis.dim_value or axis.dim_param) for axis in axes)}]")
    return found


@pytest.fixture(scope="module")
def everything(plans):
    path, _ = plans("all")
    with Plan.open(path) as plan:
        yield plan


def test_doors_lie_channels_last(everything):
    levels = ["level0 [B,32,32,16]", "level1 [B,16,16,24]", "level2 [B,8,8,32]", "level3 [B,4,4,40]"]
    parts = float_parts(everything, cut=True)
    assert len(parts) == len(parts.names) == 8
    found = {part.name: (doors(part.model.graph.input), doors(part.model.graph.output)) for part in parts}
    assert tuple(found) == parts.names
    assert found["encoder:AERIAL_RGBI"] == (["pixels [B,3,128,128]"], levels)
    assert found["encoder:DEM_ELEV"] == (["pixels [B,2,128,128]"], levels)
    assert found["spatial:SENTINEL2_TS"] == SERIES_DOORS[:2]
    small = [f"level{place} [B,2,2,{channels}]" for place, channels in enumerate((16, 24, 32, 40))]
    assert found["temporal:SENTINEL2_TS"] == (SERIES_DOORS[2], small)
    assert found["decode:AERIAL_LABEL-COSIA"] == (levels, ["logits [B,19,32,32]"])
    assert found["decode:ALL_LABEL-LPIS"] == (levels, ["logits [B,23,32,32]"])
    whole = float_parts(everything, cut=False)
    part = whole.part("encoder:SENTINEL2_TS")
    assert doors(part.model.graph.input) == ["pixels [B,T,10,2,2]", "days [B,T]", "mask [B,T]"]
    assert doors(part.model.graph.output) == small
    assert not whole.attention
    with pytest.raises(KeyError):
        whole.part("spatial:SENTINEL2_TS")


@pytest.mark.parametrize("name", ["encoder:AERIAL_RGBI", "encoder:DEM_ELEV", "encoder:SENTINEL1-ASC_TS"])
def test_an_encoder_gives_the_maps_of_its_segment(everything, name):
    graph = read_segment(everything, name)
    part = float_parts(everything, cut=False).part(name)
    arrays = draw(part.model.graph.input)
    expected = to_last(run(graph.model, arrays))
    for level, got in run(part.model, arrays).items():
        assert relative_error(got, expected[level]) <= 1e-5


def test_a_decoder_takes_maps_channels_last(everything):
    name = "decode:ALL_LABEL-LPIS"
    graph = read_segment(everything, name)
    arrays = draw(graph.model.graph.input)
    got = run(float_parts(everything, cut=True).part(name).model, to_last(arrays))
    assert relative_error(got["logits"], run(graph.model, arrays)["logits"]) <= 1e-5


def test_series_alone_are_averaged_by_the_decoder(plans):
    path, _ = plans("series")
    with Plan.open(path) as plan:
        graph = read_segment(plan, "decode:AERIAL_LABEL-COSIA")
        part = float_parts(plan, cut=False).part("decode:AERIAL_LABEL-COSIA")
    total = draw(graph.model.graph.input)
    expected = run(graph.model, {"level0": total["level0"] / 2})["logits"]
    assert relative_error(run(part.model, to_last(total))["logits"], expected) <= 1e-6
    typed = write_types(part, precision="fp16")
    assert typed.inputs[0].dtype == "float16"
    assert "mean:level0" in typed.islands


@pytest.mark.parametrize("cut", [True, False])
def test_tensors_keep_the_names_that_they_have_in_the_segment(cut):
    """What was learnt of a segment's tensors can be applied to its parts."""
    with Plan.open(SMALL) as plan:
        for part in float_parts(plan, cut=cut):
            whole = read_segment(plan, part.segment)
            known = set(whole.makers) | set(whole.inputs)
            layers = {node.name: node for node in whole.nodes}
            products = [node for node in part.model.graph.node if node.op_type in PRODUCTS]
            assert products
            for node in products:
                assert {segment_tensor(name) for name in node.input} <= known | set(whole.constants)
                assert node.output == layers[node.name].output or segment_tensor(node.output[0]) in known


def export(module, names, outputs) -> Graph:
    return Graph(onnx.load_from_string(export_graph(SegmentModule("encoder:A", module, names, outputs)).data)).folded()


def test_tiles_need_not_be_square(everything):
    torch.manual_seed(1)
    network = UPerFuse(small_spec("aerial")).eval()
    randomise(network)
    names = ("level0", "level1", "level2", "level3")
    pixels = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        levels = _ImageEncoder(network, "AERIAL_RGBI")(pixels)
        logits = network.decode("AERIAL_LABEL-COSIA", list(levels))
    graph = export(_ImageEncoder(network, "AERIAL_RGBI"), {"pixels": pixels}, names)
    encoder = encoder_part(graph, modality=everything.manifest.modality("AERIAL_RGBI"))
    got = run(encoder.model, {"pixels": pixels.numpy()})
    assert got["level0"].shape == (2, 16, 24, 16)
    for name, level in zip(names, levels, strict=True):
        assert relative_error(got[name], np.moveaxis(level.numpy(), 1, -1)) <= 1e-4

    inputs = dict(zip(names, (level.clone() for level in levels), strict=True))
    graph = export(_Decoder(network, "AERIAL_LABEL-COSIA"), inputs, ("logits",))
    decoder = decoder_part(graph, task="AERIAL_LABEL-COSIA", averaged=1)
    assert relative_error(run(decoder.model, got)["logits"], logits.numpy()) <= 1e-4


def model_of(nodes, inputs, outputs, stored=(), *, opset=18) -> onnx.ModelProto:
    """A model whose inputs and outputs are given as name -> shape."""
    entries = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in each.items()]
        for each in (inputs, outputs)
    ]
    graph = helper.make_graph(
        nodes, "small", *entries, [numpy_helper.from_array(a, n) for n, a in dict(stored).items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def test_what_depends_on_constants_alone_is_evaluated_and_no_shape_is_lost():
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["c"]),
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Mul", ["c", "two"], ["d"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Expand", ["d", "s"], ["e"]),
        helper.make_node("Add", ["x", "e"], ["y"]),
        helper.make_node("Identity", ["d"], ["z"]),
    ]
    rng = np.random.default_rng(2)
    stored = {"a": rng.standard_normal((2, 4)).astype(np.float32), "b": rng.standard_normal((4, 3)).astype(np.float32)}
    model = model_of(nodes, {"x": ["B", 2, 3]}, {"y": ["B", 2, 3], "z": [2, 3]}, stored)
    folded = Graph(model).folded()
    assert [node.op_type for node in folded.nodes] == ["Shape", "Expand", "Add"]
    assert set(folded.constants) == {"d", "z"}
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    assert np.allclose(run(folded.model, {"x": x})["y"], x + 2 * stored["a"] @ stored["b"], atol=1e-5)


def test_transpositions_that_undo_each_other_go_and_every_name_stays():
    nodes = [
        transpose("x", "a", (0, 3, 1, 2)),
        transpose("a", "b", (0, 2, 3, 1)),
        helper.make_node("Relu", ["b"], ["c"]),
        transpose("c", "d", (0, 3, 1, 2)),
        transpose("d", "e", (0, 3, 1, 2)),
    ]
    graph = cancelled(model_of(nodes, {"x": [1, 2, 3, 4]}, {"e": [1, 3, 4, 2]}))
    assert [node.op_type for node in graph.nodes] == ["Identity", "Relu", "Transpose", "Transpose"]
    x = np.arange(-12, 12, dtype=np.float32).reshape(1, 2, 3, 4)
    relu = np.maximum(x, 0)
    assert np.array_equal(run(graph.model, {"x": x})["e"], relu.transpose(0, 3, 1, 2).transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("attributes", "rewritten"),
    [
        ({"pads": [1, 1, 1, 1], "strides": [1, 1], "output_padding": [0, 0]}, True),
        ({"pads": [0, 1, 2, 0]}, True),
        ({"pads": [0, 2, 1, 1]}, False),
        ({"dilations": [1, 2], "pads": [1, 1, 0, 2]}, True),
        ({"strides": [2, 1], "pads": [1, 1, 1, 1]}, False),
        ({"strides": [2, 2], "output_padding": [1, 1]}, False),
        ({"group": 2}, False),
        ({"auto_pad": "SAME_UPPER"}, False),
    ],
)
def test_transposed_convolutions_of_stride_one_are_convolutions(attributes, rewritten):
    rng = np.random.default_rng(4)
    weight = rng.standard_normal((4, 3, 3, 2)).astype(np.float32)
    bias = rng.standard_normal(3 * attributes.get("group", 1)).astype(np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="up", kernel_shape=[3, 2], **attributes)
    model = model_of([node], {"x": [2, 4, 5, 7]}, {"y": [2, len(bias), "y", "x"]}, {"w": weight, "b": bias})
    x = rng.standard_normal((2, 4, 5, 7)).astype(np.float32)
    expected = run(model, {"x": x})["y"]
    made = as_convolutions(model)
    assert [(each.op_type, each.name) for each in made.graph.node] == [("Conv" if rewritten else "ConvTranspose", "up")]
    assert np.allclose(run(made, {"x": x})["y"], expected, atol=1e-5)


def test_maps_that_are_none_are_refused(everything):
    graph = Graph(
        model_of([helper.make_node("Relu", ["pixels"], ["level0"])], {"pixels": ["B", 3]}, {"level0": ["B", 3]})
    )
    with pytest.raises(PlanError, match=r"map level0 of a segment has the shape \['B', 3\], expected \[B, C, Y, X\]"):
        encoder_part(graph, modality=everything.manifest.modality("AERIAL_RGBI"))


def test_graphs_whose_shapes_cannot_be_are_refused():
    graph = Graph(model_of([helper.make_node("Where", ["x"], ["y"])], {"x": ["B", 3]}, {"y": ["B", 3]}))
    with pytest.raises(
        PlanError, match=r"shapes of a segment do not fit each other .*out of bounds.*; export the plan"
    ):
        graph.types()


def broken_input(graph):
    graph.node[0].input[0] = "nowhere"


def another_door(graph):
    graph.output[0].name = graph.node[-1].output[0] = "scores"


def not_an_operation(graph):
    graph.node[0].op_type = "Convolve"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (broken_input, "not a valid ONNX graph"),
        (not_an_operation, "not a valid ONNX graph"),
        (another_door, "has doors .*'scores'.*its plan lists .*'logits'"),
    ],
)
def test_segments_that_are_no_graphs_are_refused(tmp_path, edit, words):
    name = "decode:ALL_LABEL-LPIS"
    with Plan.open(SMALL) as plan:
        manifest = plan.manifest
        members = {member: bytes(plan.member(member)) for member in manifest.members}
    member = manifest.segment(name).member
    model = onnx.load_from_string(members[member])
    edit(model.graph)
    write_plan(
        tmp_path / "broken.plan",
        manifest.model_copy(update={"members": {}}),
        {**members, member: model.SerializeToString()},
    )
    with Plan.open(tmp_path / "broken.plan") as plan, pytest.raises(PlanError, match=f"segment {name} .*{words}"):
        float_parts(plan, cut=False).part(name)
