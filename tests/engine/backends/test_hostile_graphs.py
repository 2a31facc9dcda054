"""Plans that are hashed rightly and hold wrong or hostile graphs are refused before anything runs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from uperfuse.engine import Engine, Plan, PlanError
from uperfuse.engine.backends.graph_file import check_graph_file
from uperfuse.engine.plan.plan import write_plan

AERIAL, ELEVATION, OPTICAL, RADAR = (
    f"encoder:{name}" for name in ("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS")
)
LAND_COVER, CROPS = "decode:AERIAL_LABEL-COSIA", "decode:ALL_LABEL-LPIS"
ABSENT = "absent:SENTINEL2_TS"


class Source:
    """A good plan taken apart."""

    def __init__(self, path) -> None:
        with Plan.open(path) as plan:
            self.manifest = plan.manifest.model_copy(update={"members": {}})
            self.members = {name: bytes(plan.member(name)) for name in plan.manifest.members}

    def graph(self, segment: str) -> onnx.ModelProto:
        return onnx.load_from_string(self.members[self.manifest.segment(segment).member])

    def load(self, path, changed: dict[str, bytes]) -> None:
        """Write the plan with other content in some segments, and load it."""
        names = {self.manifest.segment(segment).member: data for segment, data in changed.items()}
        write_plan(path, self.manifest, {**self.members, **names})
        Engine.load(path, precision="float32", threads=1).close()

    def load_listed(self, path, segment: str, **fields) -> None:
        """Write the plan with other words about one segment, and load it."""
        segments = tuple(
            entry.model_copy(update=fields) if entry.name == segment else entry for entry in self.manifest.segments
        )
        write_plan(path, self.manifest.model_copy(update={"segments": segments}), self.members)
        Engine.load(path, precision="float32", threads=1).close()


@pytest.fixture(scope="module")
def source(plans):
    return Source(plans("all")[0])


def with_last_node(model: onnx.ModelProto, op: str, *constants: np.ndarray, **attributes) -> onnx.ModelProto:
    """Put one more node behind the first output."""
    output = model.graph.output[0]
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == output.name:
                    names[place] = "before"
    stored = [numpy_helper.from_array(array, f"constant{place}") for place, array in enumerate(constants)]
    model.graph.initializer.extend(stored)
    model.graph.node.append(
        helper.make_node(op, ["before", *(array.name for array in stored)], [output.name], **attributes)
    )
    output.type.tensor_type.ClearField("shape")
    return model


def half(axis: int):
    bounds = (np.array([value]) for value in (0, 2, axis))
    return ("Slice", *bounds)


@pytest.mark.parametrize(
    "segment", [AERIAL, ELEVATION, OPTICAL, ABSENT, CROPS], ids=lambda name: name.replace(":", "-")
)
@pytest.mark.parametrize(
    ("node", "attributes"),
    [
        (half(1), {}),
        (("Tile", np.array([2, 1, 1, 1])), {}),
        (("Tile", np.array([1, 1, 1, 3])), {}),
        (("Unsqueeze", np.array([0])), {}),
        (("Cast",), {"to": TensorProto.DOUBLE}),
    ],
    ids=["channels", "batch", "columns", "rank", "type"],
)
def test_a_graph_that_gives_something_else_is_refused(source, tmp_path, segment, node, attributes):
    model = with_last_node(source.graph(segment), *node, **attributes)
    with pytest.raises(PlanError, match=rf"segment {segment} (has f\d\d of shape .* at |computes)"):
        source.load(tmp_path / "x.plan", {segment: model.SerializeToString()})


@pytest.mark.parametrize(
    ("one", "other"), [(AERIAL, ELEVATION), (OPTICAL, RADAR), (LAND_COVER, CROPS), (AERIAL, ABSENT)]
)
def test_swapped_segments_are_refused(source, tmp_path, one, other):
    data = {name: source.graph(name).SerializeToString() for name in (one, other)}
    with pytest.raises(PlanError, match=f"segment ({one}|{other}) "):
        source.load(tmp_path / "x.plan", {one: data[other], other: data[one]})


@pytest.mark.parametrize(
    ("segment", "field", "place", "shape", "message"),
    [
        (
            AERIAL,
            "inputs",
            0,
            ("B", 4, 128, 128),
            r"takes pixels \[B, 4, 128, 128\], expected pixels \[B, 3, 128, 128\]",
        ),
        (OPTICAL, "inputs", 1, ("B", 7), r"days \[B, 7\]"),
        (ELEVATION, "outputs", 0, ("B", 15, 32, 32), r"gives level0 \[B, 15, 32, 32\]"),
        (ELEVATION, "outputs", 0, ("B", 16, 31, 31), r"has f32 of shape \[1,16,32,32\] at level0"),
        (AERIAL, "outputs", 1, ("B", 24, "T", "B"), r"level1 \[B, 24, T, B\]"),
        (AERIAL, "outputs", 0, (16,), r"level0 \[16\]"),
        (ABSENT, "outputs", 0, (1, 15, 1, 1), r"gives level0 \[1, 15, 1, 1\]"),
        (CROPS, "outputs", 0, ("B", 22, 32, 32), r"gives logits \[B, 22, 32, 32\], expected logits \[B, 23, 32, 32\]"),
        (CROPS, "outputs", 0, ("B", 23, 16, 16), r"gives logits \[B, 23, 16, 16\], expected logits \[B, 23, 32, 32\]"),
        (CROPS, "inputs", 0, ("B", 16, 16, 16), r"takes level0 \[B, 16, 16, 16\]"),
    ],
)
def test_doors_that_do_not_fit_are_refused(source, tmp_path, segment, field, place, shape, message):
    doors = list(getattr(source.manifest.segment(segment), field))
    doors[place] = doors[place].model_copy(update={"shape": shape})
    with pytest.raises(PlanError, match=message):
        source.load_listed(tmp_path / "x.plan", segment, **{field: tuple(doors)})


def test_a_graph_that_names_another_file_is_refused(source, tmp_path):
    secret = tmp_path / "secret.bin"
    model = source.graph(AERIAL)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    secret.write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", str(secret)), ("offset", "0"), ("length", str(secret.stat().st_size))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    with pytest.raises(PlanError, match="AERIAL_RGBI holds weights in another file"):
        source.load(tmp_path / "x.plan", {AERIAL: model.SerializeToString()})


def test_a_graph_that_loops_is_refused(source, tmp_path):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    model = with_last_node(source.graph(CROPS), "Loop", np.array(True), body=body)
    node = model.graph.node[-1]
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 << 60), "trips"))
    node.input[:] = ["trips", "constant0", "before"]
    with pytest.raises(PlanError, match=r"ALL_LABEL-LPIS holds a graph inside a node"):
        source.load(tmp_path / "x.plan", {CROPS: model.SerializeToString()})


def test_files_that_are_no_graph_are_refused(source):
    good = source.graph(OPTICAL).SerializeToString()
    check_graph_file(memoryview(good), segment="good")
    functions = onnx.load_from_string(good)
    functions.functions.add().name = "f"
    for content, message in (
        (b"", "holds 0 graphs"),
        (good + good, "holds 2 graphs"),
        (good[:-1], "is not an ONNX file, or is cut short"),
        (good[: len(good) // 2], "is not an ONNX file, or is cut short"),
        (b'<?xml version="1.0"?><net></net>', "is not an ONNX file"),
        (b"\xff" * 100, "is not an ONNX file"),
        (functions.SerializeToString(), "holds functions of its own"),
    ):
        with pytest.raises(PlanError, match=message):
            check_graph_file(memoryview(content), segment="x")
