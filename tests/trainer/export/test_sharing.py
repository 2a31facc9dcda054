"""One plan for tiles of several sides is what a plan for each would be, and holds the weights once."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import randomise
from uperfuse.engine import CheckpointError, Engine, Plan
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.plan.network import Provenance
from uperfuse.trainer.export import export_network
from uperfuse.trainer.export.graph import Graph
from uperfuse.trainer.export.sharing import sharing_weights
from uperfuse.trainer.network import BackboneSpec, ImageSpec, NetworkSpec, SeriesSpec, TaskSpec, UPerFuse

SIDES = (128, 224)
SWIN = BackboneSpec("swin", (16, 32, 64, 128), (2, 2, 2, 2), (1, 2, 4, 8), (4, 4, 4, 4))


@pytest.fixture(scope="module")
def network():
    series = SeriesSpec("SENTINEL2_TS", 10, *[(16, 16, 16, 16)] * 2, heads=4, d_key=2, d_model=16, out_widths=(8, 19))
    spec = NetworkSpec(
        (ImageSpec("AERIAL_RGBI", 4, 128, SWIN),),
        (series,),
        (TaskSpec("AERIAL_LABEL-COSIA", 19),),
        pyramid_channels=16,
        absent=("SENTINEL2_TS",),
    )
    torch.manual_seed(4)
    made = UPerFuse(spec).eval()
    randomise(made)
    return made


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    provenance = Provenance(checkpoint="x", checkpoint_sha256="0" * 64, created="x", tools={})
    for name, sides in (("both", SIDES), ("first", SIDES[0]), ("second", SIDES[1])):
        export_network(network, out=folder / f"{name}.plan", name="x", provenance=provenance, tile_px=sides)
    return folder


@pytest.mark.parametrize(("name", "side"), [("first", SIDES[0]), ("second", SIDES[1])])
def test_tiles_of_each_side_are_mapped_as_by_a_plan_for_them(exported, name, side):
    with (
        Engine.load(exported / "both.plan", tile_px=side, precision="float32") as both,
        Engine.load(exported / f"{name}.plan", precision="float32") as alone,
    ):
        assert both.manifest.model_copy(update={"members": {}, "check": None, "geometries": ()}).model_dump(
            exclude={"segments", "schema_version"}
        ) == alone.manifest.model_copy(update={"members": {}, "check": None}).model_dump(
            exclude={"segments", "schema_version"}
        )
        assert all(result.passed for result in both.verify())
        tiles = check_tiles_of(alone.manifest, seed=9, dates=4)
        for given in (tiles, {key: tile for key, tile in tiles.items() if not key.startswith("SENTINEL2")}):
            one, other = both.predict(given, logits=True), alone.predict(given, logits=True)
            for task in one.logits:
                np.testing.assert_array_equal(one.logits[task], other.logits[task])
        assert np.ptp(one.logits[task]) > 0


def test_weights_are_stored_once(exported):
    sizes = {name: (exported / f"{name}.plan").stat().st_size for name in ("both", "first", "second")}
    with Plan.open(exported / "both.plan") as plan:
        assert plan.manifest.tile_sides_px == SIDES
        (geometry,) = plan.manifest.geometries
        assert [entry.precision for entry in geometry.accuracy] == [e.precision for e in plan.manifest.accuracy]
        own = {segment.name: segment for segment in plan.manifest.segments}
        for segment in geometry.segments:
            stored = plan.manifest.members[segment.member].size
            if segment.name == "absent:SENTINEL2_TS":
                assert segment.member == own[segment.name].member
            elif segment.role == "encoder":
                assert stored < 0.25 * plan.manifest.members[own[segment.name].member].size
    assert sizes["both"] < 0.75 * (sizes["first"] + sizes["second"])


def test_commands_speak_of_every_side(exported):
    def uperfuse(*arguments: object) -> str:
        command = [sys.executable, "-m", "uperfuse.engine.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    said = uperfuse("inspect", exported / "both.plan")
    assert "Tiles of other sides, by the same weights" in said
    for side in SIDES:
        assert f"2 random of {side} px" in said
    said = uperfuse("verify", exported / "both.plan", "--precision", "float32")
    assert [f"on a tile of {side} px" in said for side in SIDES] == [True, True]
    assert said.count("passed") == 2


def test_the_network_is_left_as_its_own_tiles_want_it(network, exported):
    with torch.inference_mode():
        maps = network.encoders["AERIAL_RGBI"](torch.zeros(1, 4, SIDES[0], SIDES[0]))
    assert maps[0].shape[-1] == SIDES[0] // 4


@pytest.mark.parametrize(("sides", "said"), [((), "none"), ((128, 128), "128, 128")])
def test_sides_are_each_asked_for_once(network, tmp_path, sides, said):
    with pytest.raises(CheckpointError, match=f"sides of tiles are {said}, expected at least one, each once"):
        export_network(network, out=tmp_path / "x.plan", name="x", provenance=None, tile_px=sides)
    assert not list(tmp_path.iterdir())


def a_graph(weights: dict[str, np.ndarray], product: str) -> Graph:
    nodes = [helper.make_node("Identity", ["x"], [product])]
    for name in weights:
        nodes.append(helper.make_node("Add", [product, name], [f"{product}.{name}"]))
        product = f"{product}.{name}"
    nodes.append(helper.make_node("Identity", [product], ["y"]))
    doors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [100]) for name in ("x", "y")]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", doors[:1], doors[1:], stored))
    return Graph("encoder:X", model.SerializeToString(), (), (), 0, 0.0)


def test_names_that_mean_something_else_are_changed_and_small_tensors_stay():
    a, b, c = (np.full(100, value, np.float32) for value in (1, 2, 3))
    own = a_graph({"w1": a, "w2": b, "tiny": c[:1]}, "p")
    # w1 and w2 have changed places, a product has the name of a weight of the lender's, and one weight is new
    graph = a_graph({"w2": a, "w1": b, "p.w1": c, "tiny": c[:1]}, "w2_")
    shared = onnx.load_from_string(sharing_weights(graph, own).data)
    assert [tensor.name for tensor in shared.graph.initializer] == ["p.w1", "tiny"]
    read = [name for node in shared.graph.node if node.op_type == "Add" for name in node.input[1:]]
    assert read == ["w1", "w2", "p.w1", "tiny"]
    made = [node.output[0] for node in shared.graph.node]
    assert len(set(made)) == len(made)
    assert not {"w1", "w2"} & set(made)
    assert sharing_weights(graph, own).parameters == 101


def test_of_several_lenders_the_first_decides_what_a_name_means():
    a, b, c = (np.full(100, value, np.float32) for value in (1, 2, 3))
    first, second = a_graph({"w1": a}, "p"), a_graph({"w1": b, "w2": c}, "q")
    shared = onnx.load_from_string(sharing_weights(a_graph({"x": b, "y": c, "z": a}, "r"), first, second).data)
    assert [tensor.name for tensor in shared.graph.initializer] == ["x"]
    assert [node.input[1] for node in shared.graph.node if node.op_type == "Add"] == ["x", "w2", "w1"]
