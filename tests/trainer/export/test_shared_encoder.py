"""A plan of a network with one encoder for several images gives PyTorch's numbers, and stores the weights once."""

from __future__ import annotations

import subprocess
import sys

import onnx
import pytest
import torch

from tests.conftest import randomise
from tests.engine.builder.running import draw, run
from uperfuse.engine import Engine, Plan, PlanError
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.backends.segment_graph import segment_graph
from uperfuse.engine.builder import float_parts
from uperfuse.engine.builder.calibrate import candidates
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.plan.network import Provenance
from uperfuse.engine.plan.plan import write_plan
from uperfuse.trainer.export import ExportConfig, export_network, reference_logits
from uperfuse.trainer.network import BackboneSpec, ImageSpec, NetworkSpec, TaskSpec, UPerFuse

SIDES = (256, 384)
BACKBONE = BackboneSpec("convnextv2", (8, 16, 24, 32), (1, 1, 1, 1))
LENDER, SHARING = "encoder:AERIAL_RGBI", "encoder:SPOT_RGBI"
SAID = ExportConfig.model_validate({"modalities": {"SPOT_RGBI": {"bands": ["NIR", "R", "G"]}}})
PROVENANCE = Provenance(checkpoint="x", checkpoint_sha256="0" * 64, created="x", tools={})


def network_of(*, shared: tuple[str, ...]) -> UPerFuse:
    spec = NetworkSpec(
        (
            ImageSpec("AERIAL_RGBI", 4, 128, BACKBONE),
            ImageSpec("DEM_ELEV", 2, 128, BACKBONE),
            ImageSpec("SPOT_RGBI", 3, 64, BACKBONE),
        ),
        (),
        (TaskSpec("AERIAL_LABEL-COSIA", 19),),
        pyramid_channels=16,
        absent=("DEM_ELEV", "SPOT_RGBI"),
        shared=shared,
    )
    torch.manual_seed(4)
    made = UPerFuse(spec).eval()
    randomise(made)
    return made


@pytest.fixture(scope="module")
def network():
    return network_of(shared=("DEM_ELEV", "SPOT_RGBI"))


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    for name, each, sides in (("shared", network, SIDES), ("unshared", network_of(shared=()), SIDES[0])):
        out = folder / f"{name}.plan"
        export_network(each, out=out, name="x", provenance=PROVENANCE, said=SAID, tile_px=sides)
    return folder


@pytest.mark.parametrize("side", SIDES)
def test_its_maps_are_pytorchs_whatever_it_is_given(network, exported, side):
    with Engine.load(exported / "shared.plan", tile_px=side, precision="float32") as engine:
        assert all(result.passed for result in engine.verify())
        tiles = check_tiles_of(engine.manifest, seed=9, dates=4)
        for left_out in ((), ("SPOT_RGBI",), ("DEM_ELEV", "SPOT_RGBI")):
            given = {key: tile for key, tile in tiles.items() if key not in left_out}
            (got,) = engine.predict(given, logits=True).logits.values()
            (want,) = reference_logits(network, engine.manifest, given).values()
            assert relative_error(got, want) < 1e-5


def test_what_is_shared_is_stored_once(network, exported):
    encoder = dict(network.encoders["AERIAL_RGBI"].seg_model.model.named_parameters())
    stages = sum(each.numel() for name, each in encoder.items() if name.startswith("stages_"))
    with Plan.open(exported / "shared.plan") as plan, Plan.open(exported / "unshared.plan") as unshared:
        shared = dict.fromkeys(("encoder:DEM_ELEV", SHARING), LENDER)
        assert (plan.manifest.schema_version, plan.manifest.lenders) == (4, shared)
        assert (unshared.manifest.schema_version, unshared.manifest.lenders) == (1, {})
        held, whole = (sum(len(p.member(s.member)) for s in p.manifest.segments) for p in (plan, unshared))
        assert whole - held > 1.9 * 4 * stages
        counted, all_of_them = (sum(s.parameters for s in each.manifest.segments) for each in (plan, unshared))
        assert all_of_them - counted > 1.9 * stages
        for name in shared:
            held, whole = plan.manifest.segment(name), unshared.manifest.segment(name)
            assert held.gflop == whole.gflop
            assert held.parameters < 0.5 * whole.parameters
        # of the weights of the lender nothing that is worth it is in another graph
        lent = {tensor.raw_data for tensor in tensors_of(plan.member(plan.manifest.segment(LENDER).member))}
        for name in shared:
            own = {tensor.raw_data for tensor in tensors_of(plan.member(plan.manifest.segment(name).member))}
            assert max(map(len, own & lent), default=0) < 256
            onnx.checker.check_model(onnx.load_from_string(bytes(segment_graph(plan, name))), full_check=True)


def test_encoders_of_another_side_hold_no_weights_at_all(exported):
    with Plan.open(exported / "shared.plan", tile_px=SIDES[1]) as plan, Plan.open(exported / "shared.plan") as own:
        for segment in plan.manifest.segments:
            if segment.role == "encoder":
                assert segment.parameters == own.manifest.segment(segment.name).parameters
                assert segment.member != own.manifest.segment(segment.name).member
                assert all(len(tensor.raw_data) < 256 for tensor in tensors_of(plan.member(segment.member)))
        assert plan.lenders(SHARING) == tuple(own.manifest.segment(name).member for name in (SHARING, LENDER))


def tensors_of(graph: memoryview) -> list[onnx.TensorProto]:
    return list(onnx.load_from_string(bytes(graph)).graph.initializer)


def test_the_plan_of_a_network_that_shares_nothing_says_nothing_of_it(exported):
    with Plan.open(exported / "unshared.plan") as plan:
        assert b"lender" not in bytes(plan._content("manifest.json"))


@pytest.mark.parametrize("side", SIDES)
def test_the_builder_and_its_quantisation_find_the_weights(network, exported, side):
    with Plan.open(exported / "shared.plan", tile_px=side) as plan:
        parts, layers = float_parts(plan, cut=True), candidates(plan, kind="int8")
        for image in network.spec.images:
            name = f"encoder:{image.name}"
            part = parts.part(name)
            arrays = draw(part.model.graph.input)
            with torch.inference_mode():
                maps = network.encode_image(image.name, torch.from_numpy(arrays["pixels"]))
                want = [level.movedim(1, -1).numpy() for level in network.project(image.name, maps)]
            for place, level in enumerate(want):
                assert relative_error(run(part.model, arrays)[f"level{place}"], level) <= 1e-5
            assert len(layers[name]) == len(layers[LENDER]) > 8


def test_inspect_names_the_lender(exported):
    command = [sys.executable, "-m", "uperfuse.engine.cli", "inspect", str(exported / "shared.plan")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "one for AERIAL_RGBI, DEM_ELEV, SPOT_RGBI" in " ".join(said.split())
    assert "schema 4" in said


def test_a_lender_that_lacks_the_weights_is_refused_by_name(exported, tmp_path):
    with Plan.open(exported / "shared.plan") as plan:
        segments = tuple(
            each.model_copy(update={"lender": "decode:AERIAL_LABEL-COSIA"}) if each.name == SHARING else each
            for each in plan.manifest.segments
        )
        manifest = plan.manifest.model_copy(update={"segments": segments, "geometries": (), "members": {}})
        members = {name: plan.member(name) for name in plan.manifest.members}
        write_plan(tmp_path / "other.plan", manifest, members)
    with pytest.raises(PlanError, match=r"encoder:SPOT_RGBI .* reads .*, which neither its graph nor segments/decode"):
        Engine.load(tmp_path / "other.plan", precision="float32")
