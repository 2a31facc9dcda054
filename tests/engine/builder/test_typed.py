"""Types written into parts: strongly typed, short where promised, float32 where promised, and the same numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from tests.conftest import ROOT
from uperfuse.engine import BackendError, Plan, PlanError
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.builder import FloatPart, float_parts, write_types
from uperfuse.engine.builder.onnx_graph import Graph

from .rounding import run_rounded
from .running import draw, run
from .test_parts import model_of

SMALL = ROOT / "models" / "uperfuse-small.plan"
SHORT = {"float32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
FLOATS = set(SHORT.values())
PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
MATRICES = {"MatMul", "Gemm"}
MOVES = {"Reshape", "Transpose", "Unsqueeze", "Slice", "Concat", "Pad", "Expand", "Identity", "Squeeze"}
ALWAYS_FLOAT = {"LayerNormalization", "InstanceNormalization", "Softmax", "ReduceL2", "ReduceMean", "ReduceSum", "Sqrt"}
ROUNDINGS = 8
"""What an output may be off, in roundings to its type: 5.2 were seen, behind a normalisation of few channels."""


@dataclass
class Typed:
    """A typed graph, indexed."""

    model: onnx.ModelProto
    islands: set[str]

    def __post_init__(self):
        self.graph = Graph(self.model)
        inferred = shape_inference.infer_shapes(self.model).graph
        entries = (*inferred.input, *inferred.value_info, *inferred.output)
        self.types = {entry.name: entry.type.tensor_type.elem_type for entry in entries}
        self.types |= {name: tensor.data_type for name, tensor in self.graph.constants.items()}

    def kinds(self, names) -> set[int]:
        return {self.types[name] for name in names if name} & FLOATS

    def of(self, kind: str) -> list[onnx.NodeProto]:
        return [node for node in self.graph.nodes if node.op_type == kind]

    def is_wide(self, node: onnx.NodeProto) -> bool:
        """Whether a product of float16 stands between conversions, so that its sums are float32."""
        makers = [self.graph.makers.get(name) for name in node.input]
        if node.op_type not in MATRICES or not all(maker is not None and maker.op_type == "Cast" for maker in makers):
            return False
        (reader,) = self.graph.readers[node.output[0]]
        before = {self.types[maker.input[0]] for maker in makers}
        return before == {TensorProto.FLOAT16} and self.types[reader.output[0]] == TensorProto.FLOAT16


@pytest.fixture(scope="module")
def parts() -> list[FloatPart]:
    """Parts of the shipped plan, whose encoders of series are cut, and one encoder of a series as a whole."""
    with Plan.open(SMALL) as plan:
        return [*float_parts(plan, cut=True), float_parts(plan, cut=False).part("encoder:SENTINEL2_TS")]


@pytest.fixture(scope="module", params=["float32", "fp16", "bf16"])
def typed(request, parts):
    """The same, typed: precision and, by name, part and graph."""
    made = {}
    for part in parts:
        graph = write_types(part, precision=request.param)
        made[part.name] = (graph, Typed(onnx.load_from_string(graph.model), set(graph.islands)))
    return request.param, made


def test_every_node_computes_in_one_type(typed):
    precision, graphs = typed
    for name, (_, each) in graphs.items():
        for node in each.graph.nodes:
            if node.op_type in ("Cast", "Shape"):
                continue
            kinds = each.kinds([*node.input, *node.output])
            assert len(kinds) <= 1, f"{name}: {node.name} mixes {kinds}"
            assert kinds <= {TensorProto.FLOAT, SHORT[precision]}


def test_doors_have_the_types_that_are_said(typed):
    precision, graphs = typed
    raw = {"encoder:DEM_ELEV": ["pixels"], "encoder:SENTINEL2_TS": ["pixels", "days", "mask"]}
    raw |= {f"spatial:{series}_TS": ["pixels", "mask"] for series in ("SENTINEL2", "SENTINEL1-ASC", "SENTINEL1-DESC")}
    raw |= {f"decode:{task}": ["logits"] for task in ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")}
    names = {"float32": "float32", "fp16": "float16", "bf16": "bfloat16"}
    for name, (graph, each) in graphs.items():
        listed = [*each.model.graph.input, *each.model.graph.output]
        for door, entry in zip([*graph.inputs, *graph.outputs], listed, strict=True):
            assert door.name == entry.name
            assert door.dtype == ("float32" if door.name in raw.get(name, []) else names[precision]), name
            assert entry.type.tensor_type.elem_type == SHORT[next(key for key in names if names[key] == door.dtype)]


def test_no_conversion_is_idle(typed):
    precision, graphs = typed
    for name, (_, each) in graphs.items():
        casts = each.of("Cast")
        assert bool(casts) == (precision != "float32"), name
        assert len({(node.input[0], node.attribute[0].i) for node in casts}) == len(casts), name
        given = set(each.graph.outputs)
        for node in casts:
            readers = each.graph.readers.get(node.output[0], [])
            assert readers or node.output[0] in given, f"{name}: {node.name} is read by nobody"
            assert each.types[node.input[0]] != node.attribute[0].i, f"{name}: {node.name} changes nothing"
            feeds_wide = all(each.is_wide(reader) for reader in readers) and bool(readers)
            if node.input[0] in each.graph.constants:
                assert feeds_wide, f"{name}: {node.name} converts a constant"
            before = each.graph.makers.get(node.input[0])
            if before is not None and before.op_type == "Cast":
                maker = each.graph.makers.get(before.input[0])
                of_wide = maker is not None and each.is_wide(maker)
                assert feeds_wide or of_wide, f"{name}: {node.name} undoes {before.name}"


def test_products_are_short_but_in_islands(typed):
    precision, graphs = typed
    short = SHORT[precision]
    wide = 0
    for name, (_, each) in graphs.items():
        for node in each.graph.nodes:
            if node.op_type not in PRODUCTS:
                continue
            if node.name in each.islands:
                assert each.kinds(node.input) == {TensorProto.FLOAT}
            elif precision == "fp16" and node.op_type in MATRICES:
                assert each.is_wide(node), f"{name}: {node.name}"
                wide += 1
            else:
                assert each.kinds(node.input) == {short}, f"{name}: {node.name}"
        weights = {t.name for t in each.graph.constants.values() if t.data_type in FLOATS and np.prod(t.dims) > 2000}
        for weight in weights:
            (reader,) = each.graph.readers[weight]
            island = reader.name in each.islands
            assert each.types[weight] == (TensorProto.FLOAT if island else short), f"{name}: {weight}"
    assert wide == (20 + 10 * 3 + 3 + 1 + 2 * 2 if precision == "fp16" else 0)


def test_islands_are_float32(typed):
    _, graphs = typed
    for name, (graph, each) in graphs.items():
        nodes = {node.name: node for node in each.graph.nodes}
        assert set(graph.islands) <= set(nodes)
        for island in graph.islands:
            assert each.kinds([*nodes[island].input, *nodes[island].output]) == {TensorProto.FLOAT}, f"{name}: {island}"
        missing = [
            node.name for node in each.graph.nodes if node.op_type in ALWAYS_FLOAT and node.name not in each.islands
        ]
        assert not missing, name
        for norm in each.of("InstanceNormalization"):
            reshape = each.graph.readers[norm.output[0]][0]
            scale = each.graph.readers[reshape.output[0]][0]
            shift = each.graph.readers[scale.output[0]][0]
            assert [scale.op_type, shift.op_type] == ["Mul", "Add"]
            assert {scale.name, shift.name} <= each.islands


def test_stems_of_raw_numbers_and_logits_are_float32(typed):
    precision, graphs = typed
    short = precision != "float32"
    first = {name: next(n for n in each.graph.nodes if n.op_type == "Conv") for name, (_, each) in graphs.items()}
    for name, (graph, _) in graphs.items():
        raw = name == "encoder:DEM_ELEV" or name.startswith("spatial:") or name == "encoder:SENTINEL2_TS"
        if name.startswith(("encoder:", "spatial:")):
            assert (first[name].name in graph.islands) == (raw or not short), name
        if name.startswith("decode:"):
            convolutions = graphs[name][1].of("Conv")
            in_float = [node for node in convolutions if node.name in graph.islands]
            assert in_float == (convolutions[-1:] if short else convolutions)


def test_where_sums_follow_each_other_they_are_float32(parts):
    """The aerial encoder has up to four blocks a stage, the other images' one: no stream to speak of."""
    found = {}
    for part in parts:
        each = Typed(onnx.load_from_string(write_types(part, precision="fp16").model), set())
        for node in each.of("Add"):
            if not any(name in each.graph.constants for name in node.input):
                kinds = found.setdefault(part.name, [])
                kinds.append(each.types[node.output[0]] == TensorProto.FLOAT)
    assert sum(found["encoder:AERIAL_RGBI"]) >= 8
    assert found["spatial:SENTINEL2_TS"] == [False] * 3
    assert found["decode:ALL_LABEL-LPIS"] == [False] * 4


def test_numbers_are_those_of_the_segment(typed, parts):
    precision, graphs = typed
    bits = {"float32": 24, "fp16": 11, "bf16": 8}[precision]
    for part in parts:
        if part.name == "encoder:SENTINEL2_TS":  # softmax magnifies what its features are off; its halves are here
            continue
        arrays = draw(part.model.graph.input)
        expected = run(part.model, arrays)
        got = run_rounded(graphs[part.name][0].model, arrays)
        for name, values in got.items():
            error = relative_error(values, expected[name])
            if precision == "float32":
                assert error <= 1e-5, (part.name, name)
            else:
                assert 0.1 * 2.0**-bits < error <= ROUNDINGS * 2.0**-bits, (part.name, name, error * 2**bits)


def test_a_report_says_what_was_done(parts):
    (part,) = (each for each in parts if each.name == "decode:ALL_LABEL-LPIS")
    graph = write_types(part, precision="bf16")
    assert graph.layers["Conv"] == {"bfloat16": 11, "float32": 1}
    assert graph.layers["MatMul"] == {"bfloat16": 2, "float32": 8}  # float32: means over parts of the coarsest map
    assert sum(graph.layers["Cast"].values()) == len(
        [n for n in onnx.load_from_string(graph.model).graph.node if n.op_type == "Cast"]
    )


def test_the_same_part_gives_the_same_bytes_and_stays_as_it_was(parts):
    part = parts[0]
    before = part.model.SerializeToString(deterministic=True)
    assert write_types(part, precision="fp16").model == write_types(part, precision="fp16").model
    assert part.model.SerializeToString(deterministic=True) == before


def small(nodes, stored, *, shape=("B", 6, 5, 8), out=("B", 6, 5, 8), **marks) -> FloatPart:
    model = model_of(nodes, {"x": shape}, {"y": out}, stored)
    for place, node in enumerate(model.graph.node):
        node.name = node.name or f"n{place}"
    return FloatPart("encoder:X", model, "encoder:X", **marks)


def test_scores_of_an_attention_and_their_biases_are_float32_and_its_products_short():
    nodes = [
        helper.make_node("Transpose", ["x"], ["k"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["x", "k"], ["s"], name="scores"),
        helper.make_node("Add", ["s", "bias"], ["b"], name="bias"),
        helper.make_node("Reshape", ["b", "apart"], ["r"], name="windows"),
        helper.make_node("Add", ["r", "mask"], ["m"], name="mask"),
        helper.make_node("Reshape", ["m", "together"], ["t"]),
        helper.make_node("Softmax", ["t"], ["a"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["a", "x"], ["y"], name="values"),
    ]
    rng = np.random.default_rng(0)
    stored = {
        "bias": rng.standard_normal((1, 6, 5, 5)).astype(np.float32),
        "apart": np.array([-1, 2, 6, 5, 5]),
        "mask": np.where(rng.uniform(size=(1, 2, 1, 5, 5)) > 0.5, 0, -100).astype(np.float32),
        "together": np.array([-1, 6, 5, 5]),
    }
    graph = write_types(small(nodes, stored), precision="fp16")
    assert graph.islands == ("bias", "mask", "softmax")
    each = Typed(onnx.load_from_string(graph.model), set(graph.islands))
    scores, values = each.of("MatMul")
    assert each.kinds([*scores.input, *scores.output, *values.input]) == {TensorProto.FLOAT16}
    assert graph.layers["Cast"] == {"float16": 1, "float32": 1}
    x = rng.standard_normal((2, 6, 5, 8)).astype(np.float32)
    assert (
        relative_error(run_rounded(graph.model, {"x": x})["y"], run(small(nodes, stored).model, {"x": x})["y"]) < 2e-3
    )


def test_a_stream_of_sums_takes_conversions_at_its_branches_alone():
    stored = {"w": np.eye(8, dtype=np.float32) / 3}
    nodes = [helper.make_node("Relu", ["x"], ["s0"])]
    for place in range(3):
        nodes += [
            helper.make_node("MatMul", [f"s{place}", "w"], [f"b{place}"]),
            helper.make_node("Add", [f"s{place}", f"b{place}"], [f"s{place + 1}"], name=f"sum{place}"),
        ]
    nodes.append(helper.make_node("Transpose", ["s3"], ["y"], perm=[0, 3, 1, 2]))
    graph = write_types(small(nodes, stored, out=("B", 8, 6, 5)), precision="bf16")
    assert graph.islands == ("sum0", "sum1", "sum2")
    # into the stream: where it starts and from three products; out of it: to two products and to the door
    assert graph.layers["Cast"] == {"float32": 4, "bfloat16": 3}


def test_a_matrix_product_with_a_bias_adds_it_after_its_wide_sums():
    rng = np.random.default_rng(1)
    stored = {
        "w": rng.standard_normal((7, 8)).astype(np.float32),
        "b": rng.standard_normal(7).astype(np.float32),
        "rows": np.array([-1, 8]),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "rows"], ["r"]),
        helper.make_node("Gemm", ["r", "w", "b"], ["y"], name="gemm", transB=1),
    ]
    part = small(nodes, stored, out=("B", 7))
    each = Typed(onnx.load_from_string(write_types(part, precision="fp16").model), set())
    (gemm,), (add,) = each.of("Gemm"), each.of("Add")
    assert each.is_wide(gemm)
    assert each.kinds(add.input) == {TensorProto.FLOAT16}
    x = rng.standard_normal((2, 6, 5, 8)).astype(np.float32)
    got = run_rounded(write_types(part, precision="fp16").model, {"x": x})["y"]
    assert relative_error(got, run(part.model, {"x": x})["y"]) < 1e-3


def test_what_an_island_and_a_wide_product_read_alike_is_converted_once():
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["p"], name="product"),
        helper.make_node("Softmax", ["r"], ["s"], name="softmax"),
        helper.make_node("MatMul", ["s", "w"], ["f"], name="in float32"),
        helper.make_node("Add", ["p", "f"], ["y"], name="sum"),
    ]
    rng = np.random.default_rng(7)
    for order in (nodes, [nodes[0], nodes[2], nodes[3], nodes[1], nodes[4]]):
        part = small(
            order, {"w": rng.standard_normal((8, 8)).astype(np.float32)}, float_nodes=frozenset({"in float32"})
        )
        graph = write_types(part, precision="fp16")
        each = Typed(onnx.load_from_string(graph.model), set(graph.islands))
        wide = next(node for node in each.of("MatMul") if node.name == "product")
        assert each.is_wide(wide)
        assert sum(node.input[0] == "r" for node in each.of("Cast")) == 1
        kept = sorted(tensor.data_type for tensor in each.graph.constants.values())
        assert kept == [TensorProto.FLOAT, TensorProto.FLOAT16]
        x = rng.standard_normal((2, 6, 5, 8)).astype(np.float32)
        assert relative_error(run_rounded(graph.model, {"x": x})["y"], run(part.model, {"x": x})["y"]) < 2e-3


def quantised(*, scale=0.02) -> FloatPart:
    """A normalisation, a product and a convolution, both in 8 bits, as another step of the build writes them."""
    rng = np.random.default_rng(2)
    stored = {
        "one": np.ones(8, np.float32),
        "zero": np.zeros(8, np.float32),
        "xs": np.float32(scale),
        "xz": np.int8(0),
        "w": rng.integers(-127, 128, (8, 8)).astype(np.int8),
        "ws": np.full(8, 2.0**-9, np.float32),
        "wz": np.zeros(8, np.int8),
        "c": rng.integers(-127, 128, (4, 8, 1, 1)).astype(np.int8),
        "cs": np.full(4, 2.0**-8, np.float32),
        "cz": np.zeros(4, np.int8),
        "bias": np.linspace(-1, 1, 4, dtype=np.float32),
    }
    nodes = [
        helper.make_node("LayerNormalization", ["x", "one", "zero"], ["n"], name="norm"),
        helper.make_node("QuantizeLinear", ["n", "xs", "xz"], ["nq"], name="n/q"),
        helper.make_node("DequantizeLinear", ["nq", "xs", "xz"], ["nd"], name="n/d"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="w/d", axis=1),
        helper.make_node("MatMul", ["nd", "wd"], ["p"], name="product"),
        helper.make_node("Transpose", ["p"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("QuantizeLinear", ["t", "xs", "xz"], ["tq"], name="t/q"),
        helper.make_node("DequantizeLinear", ["tq", "xs", "xz"], ["td"], name="t/d"),
        helper.make_node("DequantizeLinear", ["c", "cs", "cz"], ["cd"], name="c/d", axis=0),
        helper.make_node("Conv", ["td", "cd", "bias"], ["y"], name="conv"),
    ]
    return small(nodes, stored, out=("B", 4, 6, 5))


@pytest.mark.parametrize("precision", ["float32", "fp16", "bf16"])
def test_quantised_products_are_fed_by_their_quantisation(precision):
    graph = write_types(quantised(), precision=precision)
    model = onnx.load_from_string(graph.model)
    assert model.opset_import[0].version == 19
    each = Typed(model, set(graph.islands))
    for kind in ("MatMul", "Conv"):
        (node,) = each.of(kind)
        assert [each.graph.makers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        assert each.kinds(node.input) == {SHORT[precision]}
    for node in [*each.of("QuantizeLinear"), *each.of("DequantizeLinear")]:
        assert each.kinds(node.input[1:2]) == {SHORT[precision]}
        assert node.input[2] in each.graph.constants
        assert each.types[node.input[2]] == TensorProto.INT8
    assert {"norm"} <= set(graph.islands)
    assert "Cast" not in graph.layers or graph.layers["Cast"] == {"float32": 1, graph.inputs[0].dtype: 1}


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e6])
def test_a_scale_that_the_type_does_not_hold_is_refused(scale):
    with pytest.raises(PlanError, match=r"encoder:X .*xs.* float16 .*; build with --precision bf16"):
        write_types(quantised(scale=scale), precision="fp16")
    if scale:
        write_types(quantised(scale=scale), precision="bf16")


def test_a_weight_that_the_type_does_not_hold_is_refused():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    part = small(nodes, {"w": np.diag([1, -7e4, 3, 1, 1, 1, 1, 1]).astype(np.float32)})
    with pytest.raises(PlanError, match=r"encoder:X stores 7e\+04 in w, which float16 does not hold; build with"):
        write_types(part, precision="fp16")
    write_types(part, precision="bf16")
    write_types(replace(part, float_nodes=frozenset({"product"})), precision="fp16")


def test_bfloat16_is_rounded_to_even():
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -2.5e-39, 3.0e38, 0.1, -0.0], np.float32)
    nodes = [helper.make_node("Add", ["x", "c"], ["y"])]
    stored = onnx.load_from_string(
        write_types(small(nodes, {"c": values}, shape=("B", 7), out=("B", 7)), precision="bf16").model
    ).graph.initializer[0]
    import ml_dtypes

    assert stored.raw_data == values.astype(ml_dtypes.bfloat16).tobytes()


def test_a_door_of_no_known_size_is_refused():
    part = small([helper.make_node("Relu", ["x"], ["y"])], {}, shape=("B", "Y", 5, 8), out=("B", "Y", 5, 8))
    with pytest.raises(PlanError, match=r"encoder:X has a door x of shape \['B', 'Y', 5, 8\].*export the plan again"):
        write_types(part, precision="fp16")


def test_an_unknown_precision_is_refused(parts):
    with pytest.raises(BackendError, match="precision is 'int4', expected float32, fp16, bf16"):
        write_types(parts[0], precision="int4")


def test_constants_for_two_types_are_stored_twice():
    nodes = [
        helper.make_node("Mul", ["x", "c"], ["a"]),
        helper.make_node("LayerNormalization", ["a", "c"], ["y"]),
    ]
    stored = {"c": np.linspace(0.5, 1.5, 8, dtype=np.float32)}
    model = onnx.load_from_string(write_types(small(nodes, stored), precision="fp16").model)
    kept = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kept == {"c": TensorProto.FLOAT16, "c@float32": TensorProto.FLOAT}
    by_name = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert np.array_equal(by_name["c@float32"], stored["c"])
