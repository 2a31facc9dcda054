"""`uperfuse benchmark` and `uperfuse doctor` on a machine without a GPU."""

import json
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from uperfuse.engine import BackendError, Engine, Plan, benchmark, doctor
from uperfuse.engine.benchmark import measure, tiles_for
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.cli import app
from uperfuse.engine.doctor import examine, examine_plan
from uperfuse.engine.power import Power


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_what_is_measured_hangs_together(plans):
    path = plans("all")[0]
    found = measure(path, device="cpu", precision="float32", rounds=4, batches=(1, 2))
    assert (found.device, found.precision) == ("cpu", "float32")
    assert 0 < found.tile.p50_ms <= found.tile.p95_ms <= found.tile.p99_ms
    assert 0 < found.primed.p50_ms <= found.primed.p95_ms <= found.primed.p99_ms
    assert set(found.tiles_per_s) == {1, 2}
    assert found.resident_bytes > 50e6
    assert set(found.stages_ms) == {"prepare", "encode", "fuse", "encode + decode", "classify"}
    assert sum(found.stages_ms.values()) < 3 * found.tile.p99_ms
    assert found.stages_ms["encode"] > found.stages_ms["fuse"] > 0
    assert (found.watts is None) == (found.power_source is None)
    for task in found.agreement:  # the truth is the same back end
        assert task.relative_error == 0
        assert task.argmax_equal == 1


def test_agreement_is_that_of_the_precision(plans):
    found = measure(plans("aerial")[0], device="cpu", rounds=3, batches=(1,))
    assert found.primed is None
    error = found.agreement[0].relative_error
    assert error == 0 if found.precision == "float32" else 1e-5 < error < 0.05


def test_tiles_are_the_same_on_every_machine(plans):
    with Plan.open(plans("all")[0]) as plan:
        tiles = tiles_for(plan.manifest, count=2)
        one = check_tiles_of(plan.manifest, seed=5_150, dates=13)
        some = tiles_for(plan.manifest, count=1, names=["SENTINEL2_TS"])
    assert (tiles["AERIAL_RGBI"] == np.concatenate([one["AERIAL_RGBI"]] * 2)).all()
    assert len(tiles["SENTINEL2_TS"]) == len(tiles["SENTINEL2_DATES"]) == 2
    assert set(some) == {"SENTINEL2_TS", "SENTINEL2_DATES"}


def test_the_command_writes_what_it_shows(plans, tmp_path):
    out = tmp_path / "times.json"
    done = run("benchmark", plans("aerial")[0], "--device", "cpu", "--rounds", 3, "--batch", "1,2", "--json", out)
    assert done.exit_code == 0, done.output
    (measured,) = json.loads(out.read_text())
    assert f"{measured['tile']['p50_ms']:.1f}, " in done.output
    assert f"{measured['tiles_per_s']['2']:.2f} tiles/s" in done.output
    assert "cpu, " + measured["precision"] in done.output


def test_without_options_it_measures_what_there_is_to_choose_from(plans, tmp_path):
    out, png = tmp_path / "times.json", tmp_path / "times.png"
    done = run("benchmark", plans("all")[0], "--rounds", 3, "--batch", "1,2", "--json", out, "--png", png)
    assert done.exit_code == 0, done.output
    sides = [(each["device"], each["precision"]) for each in json.loads(out.read_text())]
    assert sides[-1] == ("cpu", "float32")
    assert len({*sides}) == len(sides) <= 2
    assert "of one tile: encode" in done.output
    with Image.open(png) as picture:
        assert picture.format == "PNG"
        assert picture.size == (1440, 576)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_watts_are_those_that_the_machine_tells(plans, monkeypatch):
    @contextmanager
    def metered(*, gpu):
        assert not gpu
        yield Power("a meter", [10.0, 12.0])

    monkeypatch.setattr(benchmark, "power_meter", metered)
    found = measure(plans("aerial")[0], device="cpu", rounds=3, batches=(1,))
    assert (found.watts, found.power_source) == (11.0, "a meter")


def test_a_picture_without_matplotlib_is_refused(plans, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("benchmark", plans("aerial")[0], "--device", "cpu", "--rounds", 3, "--png", tmp_path / "times.png")
    assert isinstance(done.exception, BackendError)
    assert "install uperfuse[plot]" in str(done.exception)


def test_a_device_that_is_not_there_is_refused(plans):
    done = run("benchmark", plans("aerial")[0], "--device", "cuda")
    assert isinstance(done.exception, BackendError)
    assert "PyCUDA cannot be imported" in str(done.exception)
    assert isinstance(run("benchmark", plans("aerial")[0], "--batch", "one").exception, BackendError)


def test_the_doctor_says_what_is_missing(plans):
    words = {finding.what: finding for finding in examine()}
    assert words["GPU"].good is False
    assert "PyCUDA" in words["GPU"].found
    assert words["TensorRT-RTX"].good
    assert words["openvino"].good
    with Plan.open(plans("aerial")[0]) as plan:
        assert examine_plan(plan) == ()
    done = run("doctor", plans("aerial")[0])
    assert done.exit_code == 0
    assert "holds no engines" in done.output


@pytest.mark.parametrize("what", ["device", "reasons"])
def test_an_engine_tells_what_runs(plans, what):
    with Engine.load(plans("aerial")[0], device="cpu") as engine:
        assert {"device": engine.device == "cpu", "reasons": "runs on the processor" in engine.reasons[0]}[what]


def test_the_doctor_reads_a_jetson(tmp_path, monkeypatch):
    release, packages, libraries = tmp_path / "release", tmp_path / "status", tmp_path / "lib"
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n")
    packages.write_text(
        "Package: nvidia-l4t-core\nStatus: install ok installed\nVersion: 36.4.3-1\n\n"
        "Package: nvidia-jetpack\nStatus: install ok installed\nArchitecture: arm64\nVersion: 6.2+b77\n\n"
    )
    libraries.mkdir()
    for name in (
        "libnvinfer_builder_resource_sm87.so.10.3.0",
        "libnvinfer_builder_resource.so.10.3.0",
        "libnvinfer.so",
    ):
        (libraries / name).touch()
    monkeypatch.setattr(doctor, "_RELEASE", release)
    monkeypatch.setattr(doctor, "_PACKAGES", packages)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
    words = {finding.what: finding.found for finding in examine()}
    assert words["JetPack"] == "6.2+b77, Jetson Linux 36.4.3"
    assert words["TensorRT's libraries"] == "build for sm_87"


def test_a_machine_is_told_with_the_family_of_its_processor(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor : 0\ncpu family : 26\nmodel : 2\nmodel name : AMD EPYC\n\ncpu family : 9\nmodel : 9\n")
    assert benchmark.family_of(told) == " (family 26, model 2)"
    told.write_text("processor : 0\nCPU implementer : 0x41\n")
    assert benchmark.family_of(told) == ""
    assert benchmark.family_of(tmp_path / "none") == ""
    assert benchmark.family_of() in benchmark.machine()
