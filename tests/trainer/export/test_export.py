"""Checkpoints become plans that give the reference's numbers, or nothing is written."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
import yaml

from tests.golden import checkpoint, raw, recipe
from tests.golden import plan as golden_plan
from uperfuse.engine import CheckpointError, Engine, Plan
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.plan.network import Provenance
from uperfuse.engine.rasters import Scene
from uperfuse.engine.simulation import simulate, write_scene
from uperfuse.trainer.description import describe_modality, describe_task
from uperfuse.trainer.export import ExportConfig, export, export_checkpoint, export_network, reference_logits
from uperfuse.trainer.export.graph import Graph
from uperfuse.trainer.network import BackboneSpec, ImageSpec, NetworkSpec, SeriesSpec, TaskSpec, UPerFuse

RGB = ExportConfig.model_validate({"modalities": {"AERIAL_RGBI": {"bands": ["R", "G", "B"]}}})


def test_a_checkpoint_and_its_configuration_give_the_plan(shared, tmp_path):
    case = "lc-g_utae"
    description = checkpoint(shared, case, tmp_path / "weights.safetensors")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw(description)))
    report = export_checkpoint(
        tmp_path / "weights.safetensors", out=tmp_path / f"{case}.plan", config=tmp_path / "config.yaml"
    )
    with Plan.open(tmp_path / f"{case}.plan") as plan:
        assert plan.hash == report.plan_hash
        check_reference_numbers(shared, case, tmp_path / f"{case}.plan")


@pytest.mark.parametrize("case", ["lpis-i_swin-tiny", "multitask-lc-lpis_swin-tiny"])
def test_a_plan_gives_the_reference_numbers(shared, case):
    check_reference_numbers(shared, case, golden_plan(shared, case))


def check_reference_numbers(shared, case, path):
    description, expected = recipe(shared).load(case)
    inputs = recipe(shared).inputs(description)
    with Engine.load(path, precision="float32") as engine:
        got = engine.predict(inputs, logits=True)
    for task in description["tasks"]:
        labels = next(value for key, value in expected.items() if task in key and value.dtype == np.uint8)
        logits = next(value for key, value in expected.items() if task in key and value.dtype != np.uint8)
        assert relative_error(got.logits[task][0, :, ::8, ::8], logits) < 1e-4
        assert (got.labels[task][0] == labels).mean() >= 0.9999


def test_graphs_hold_no_trace_of_the_machine_and_each_weight_once(plans):
    path, network = plans("all")
    with Plan.open(path) as plan:
        stored = 0
        for segment in plan.manifest.segments:
            data = bytes(plan.member(segment.member))
            assert b"/site-packages/" not in data
            assert b".py" not in data
            model = onnx.load_from_string(data)
            stored += sum(int(np.prod(weight.dims)) for weight in model.graph.initializer)
            assert segment.parameters <= stored
        used = sum(
            parameter.numel()
            for name, parameter in network.named_parameters()
            if "out_conv" not in name and "fpn_stages.4" not in name
        )
    assert stored < 1.1 * used


def test_export_twice_gives_the_same_bytes(plans, tmp_path):
    path, network = plans("series")
    with Plan.open(path) as plan:
        manifest = plan.manifest
    export_network(network, out=tmp_path / "again.plan", name=manifest.name, provenance=manifest.provenance, tile_px=10)
    assert (tmp_path / "again.plan").read_bytes() == path.read_bytes()


def graphs_of(plan):
    """In place of `export_graph`: the graphs of a network's plan, which another export gives byte for byte."""

    def graph(segment):
        held = plan.manifest.segment(segment.name)
        data = bytes(plan.member(held.member))
        return Graph(held.name, data, held.inputs, held.outputs, held.parameters, held.gflop, held.lender)

    return graph


@pytest.mark.parametrize(
    ("tile_px", "backbone"),
    [
        (256, BackboneSpec("convnextv2", (8, 12, 16, 20), (1, 1, 1, 1))),
        (270, BackboneSpec("convnextv2", (8, 12, 16, 20), (1, 1, 1, 1))),
        (250, BackboneSpec("swin", (8, 16, 32, 64), (2, 2, 2, 2), (1, 2, 4, 8), (4, 4, 4, 4))),
        # 16 heads and 16 tokens in a window, as Swin-B has on SPOT's tiles, trip OpenVINO's fused attention
        (256, BackboneSpec("swin", (16, 32, 64, 128), (2, 2, 2, 2), (2, 4, 16, 16), (4, 4, 4, 4))),
    ],
    ids=["convnext-256", "convnext-270", "swin-250", "swin-16-heads"],
)
def test_a_plan_for_another_tile_equals_pytorch_and_does_without_sensors(tmp_path, tile_px, backbone):
    images = (ImageSpec("AERIAL_RGBI", 4, 512, backbone), ImageSpec("SPOT_RGBI", 4, 64, backbone))
    series = SeriesSpec("SENTINEL2_TS", 10, *[(8, 8, 8, 8)] * 2, heads=4, d_key=2, d_model=8, out_widths=(8, 19))
    torch.manual_seed(3)
    spec = NetworkSpec(
        images,
        (series,),
        (TaskSpec("AERIAL_LABEL-COSIA", 19),),
        pyramid_channels=8,
        absent=("AERIAL_RGBI", "SPOT_RGBI", "SENTINEL2_TS"),
    )
    network = UPerFuse(spec).eval()
    for level in network.absent.parameters():
        level.data.normal_()
    provenance = Provenance(checkpoint="x", checkpoint_sha256="0" * 64, created="x", tools={})
    export_network(network, out=tmp_path / "x.plan", name="x", provenance=provenance, tile_px=tile_px)
    with Engine.load(tmp_path / "x.plan", precision="float32") as engine:
        sides = {modality.name: modality.tile_px for modality in engine.manifest.modalities}
        # at 256 px SPOT's deepest map is a single pixel, as its stand-in is
        assert sides == {"AERIAL_RGBI": tile_px, "SPOT_RGBI": round(tile_px / 8), "SENTINEL2_TS": 5}
        tiles = check_tiles_of(engine.manifest, seed=4, dates=5)
        series_alone = {key: values for key, values in tiles.items() if key.startswith("SENTINEL2")}
        for given in (tiles, {"AERIAL_RGBI": tiles["AERIAL_RGBI"]}, {"SPOT_RGBI": tiles["SPOT_RGBI"]}, series_alone):
            got = engine.predict(given, logits=True)
            expected = reference_logits(network, engine.manifest, given)
            for task, logits in expected.items():
                assert logits.shape[-2:] == (tile_px, tile_px)
                assert relative_error(got.logits[task], logits) < 1e-4
                assert (got.labels[task] == logits.argmax(1)).mean() > 0.999


def test_nothing_is_written_when_the_plan_differs_from_pytorch(plans, tmp_path, monkeypatch):
    _, network = plans("series")
    truth = export.reference_logits

    def off_by_a_little(*args, **kwargs):
        return {task: logits + 0.01 * np.abs(logits).max() for task, logits in truth(*args, **kwargs).items()}

    monkeypatch.setattr(export, "reference_logits", off_by_a_little)
    with Plan.open(plans("series")[0]) as plan:
        monkeypatch.setattr(export, "export_graph", graphs_of(plan))
        provenance = plan.manifest.provenance
        with pytest.raises(CheckpointError, match="the plan differs from PyTorch on AERIAL_LABEL-COSIA"):
            export_network(network, out=tmp_path / "bad.plan", name="bad", provenance=provenance, tile_px=10)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_plan_is_kept(tmp_path):
    out = tmp_path / "kept.plan"
    out.write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="exists"):
        export_checkpoint(tmp_path / "weights.safetensors", out=out)
    assert out.read_bytes() == b"mine"


def test_the_command_says_what_is_wrong_and_fails(tmp_path):
    broken = tmp_path / "FLAIR-HUB_LC-A_RGB_swintiny-upernet.safetensors"
    broken.write_bytes(b"not a checkpoint")
    command = [sys.executable, "-m", "uperfuse.engine.cli", "export", str(broken), "-o", str(tmp_path / "x.plan")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "x.plan").exists()


def describe(name: str, channels: int, network: str, **said):
    config = ExportConfig.model_validate({"modalities": {name: said}}) if said else ExportConfig()
    tile_px = MODALITIES[name].tile_px if name in MODALITIES else 64
    return describe_modality(
        name,
        channels=channels,
        network=network,
        may_be_absent=False,
        tile_px=tile_px,
        said=config.modalities.get(name),
    )


@pytest.mark.parametrize(
    ("network", "channels", "bands"),
    [
        ("FLAIR-HUB_LC-A_RGB_swinbase-upernet", 3, ("R", "G", "B")),
        ("FLAIR-HUB_LC-A_IR_swinbase-upernet", 3, ("NIR", "R", "G")),
        ("FLAIR-HUB_LC-L_swinbase-upernet", 3, ("NIR", "R", "G")),
        ("mine", 4, ("R", "G", "B", "NIR")),
    ],
)
def test_published_names_tell_the_bands(network, channels, bands):
    modality = describe("AERIAL_RGBI", channels, network)
    assert modality.bands == bands
    facts = MODALITIES["AERIAL_RGBI"].statistics
    assert [(c.mean, c.std) for c in modality.channels] == [facts[band] for band in bands]


def test_bands_are_never_guessed():
    with pytest.raises(CheckpointError, match="does not tell which of R, G, B, NIR its 3 channels are"):
        describe("AERIAL_RGBI", 3, "mine")
    assert describe("AERIAL_RGBI", 3, "mine", bands=["B", "G", "R"]).channels[0].mean == 102.18


def test_elevation_becomes_surface_and_height():
    modality = describe("DEM_ELEV", 2, "mine")
    assert modality.bands == ("DSM", "DTM")
    assert [(c.band, c.minus) for c in modality.channels] == [("DSM", None), ("DSM", "DTM")]


def test_series_enter_raw_and_only_sentinel_2_is_filtered():
    optical, radar = describe("SENTINEL2_TS", 10, "mine"), describe("SENTINEL1-ASC_TS", 2, "mine")
    assert {(c.mean, c.std) for c in (*optical.channels, *radar.channels)} == {(0.0, 1.0)}
    assert optical.filter is not None
    assert radar.filter is None
    assert describe("SENTINEL2_TS", 10, "mine", filter=None).filter is None


def test_classes_must_be_as_many_as_the_decoder_gives():
    with pytest.raises(CheckpointError, match="19 named classes and its decoder gives 7"):
        describe_task("AERIAL_LABEL-COSIA", classes=7)
    with pytest.raises(CheckpointError, match="does not tell its classes for HABITATS"):
        describe_task("HABITATS", classes=7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modalities: {AERIAL_RGBI: {colour: red}}", "modalities.AERIAL_RGBI.colour: Extra inputs"),
        ("modalities: [", "is not YAML"),
        ("tasks: {A: {classes: [{name: x, colour: red}]}}", "tasks.A.classes.0.colour"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=message):
        ExportConfig.read(path)


def test_real_tiles_are_compared_too(plans, tmp_path, monkeypatch):
    _, network = plans("all")
    place = simulate(seed=3, shape_yx_px=(300, 400), void_corner=True)
    scene = Scene.from_yaml(write_scene(place, tmp_path / "scene"))
    kept = Scene(inputs={name: source for name, source in scene.inputs.items() if name in network.spec.modalities})
    with Plan.open(plans("all")[0]) as plan:
        monkeypatch.setattr(export, "export_graph", graphs_of(plan))
        provenance, random = plan.manifest.provenance, plan.manifest.accuracy
        report = export_network(
            network, out=tmp_path / "x.plan", name="real", provenance=provenance, said=RGB, tile_px=128, scene=kept
        )
    assert {entry.tiles for entry in report.accuracy} == {"2 random and 4 real"}
    exact = [entry.relative_error for entry in report.accuracy if entry.precision == "float32"]
    assert exact != [entry.relative_error for entry in random if entry.precision == "float32"]
    assert max(exact) < 1e-4
